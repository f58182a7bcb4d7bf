//! Text to plan, through the cache.

use super::Session;
use crate::exec::failure::Report;
use crate::route::PlannedText;
use crate::route::planner::{PlanContext, plan};
use crate::sql::lift::Lifted;
use std::sync::Arc;

impl Session {
    /// Takes the snapshot in force, unless a transaction holds an older one.
    pub fn refresh_snapshot(&mut self) {
        self.follow_reload();
        let exec = &mut self.exec;
        if exec.transaction.is_none() && !exec.backend.is_current(&exec.snapshot) {
            exec.snapshot = exec.backend.snapshot();
        }
        if self.context.version != self.exec.snapshot.version {
            self.refresh_context();
        }
    }

    /// The plan of a simple query's text; `self.lifted` then holds its literals.
    pub fn plan_simple(&mut self, text: &[u8]) -> Result<Arc<PlannedText>, Report> {
        let strings = self.context.standard_conforming_strings;
        let templates = &self.exec.backend.templates;
        templates.lift(text, strings, &mut self.lifted);
        let key = (self.lifted.fingerprint, self.context.fingerprint);
        if let Some(planned) = self.exec.backend.plans.get(key.0, key.1) {
            return Ok(planned);
        }
        let planned = Arc::new(self.plan_text(text, &self.lifted, &[])?);
        self.exec
            .backend
            .plans
            .insert(key.0, key.1, planned.clone());
        Ok(planned)
    }

    /// The plan of a text that will not come again.
    pub(super) fn plan_once(
        &mut self,
        text: &[u8],
        lifted: &Lifted,
    ) -> Result<Arc<PlannedText>, Report> {
        Ok(Arc::new(self.plan_text(text, lifted, &[])?))
    }

    /// The plan of a Parse: nothing is lifted, parameters stand for values.
    pub fn plan_parse(&mut self, text: &[u8], types: &[u32]) -> Result<Arc<PlannedText>, Report> {
        let mut fingerprint = xxhash_rust::xxh3::xxh3_128(text);
        for oid in types {
            fingerprint = fingerprint.rotate_left(7)
                ^ u128::from(*oid).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        }
        // a simple query of the same text has its literals lifted: another plan
        let key = (!fingerprint, self.context.fingerprint);
        if let Some(planned) = self.exec.backend.plans.get(key.0, key.1) {
            return Ok(planned);
        }
        let mut lifted = Lifted::default();
        lifted.fingerprint = key.0;
        let planned = Arc::new(self.plan_text(text, &lifted, types)?);
        self.exec
            .backend
            .plans
            .insert(key.0, key.1, planned.clone());
        Ok(planned)
    }

    fn plan_text(
        &self,
        text: &[u8],
        lifted: &Lifted,
        types: &[u32],
    ) -> Result<PlannedText, Report> {
        let snapshot = &self.exec.snapshot;
        let context = PlanContext {
            catalog: &snapshot.catalog,
            database: &snapshot.database,
            search_path: &self.context.search_path,
            standard_conforming_strings: self.context.standard_conforming_strings,
            declared: types,
            forced_shard: self.forced_shard,
            parsed_bytes_max: self.exec.backend.config.limits.parsed_bytes_max,
            same_encoding: self.exec.same_encoding(),
        };
        plan(text, lifted, context).map_err(Report::from)
    }
}
