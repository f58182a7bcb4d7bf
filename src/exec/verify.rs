//! `pool.verify`: a server that goes back to its pool is asked what it still holds, and compared with a fresh one. For tests
//! and for those who doubt: it costs a round trip a transaction. What is found is logged, and the server is closed.

use super::held::Held;
use crate::pool::outstanding::Fate;

/// A setting that was reset and set for the transaction only keeps its source, but not its value.
/// Asks for all that outlives a transaction, besides settings whose names are put in for `{known}`.
const QUESTION: &str = "SELECT pg_catalog.concat_ws('; ', \
    (SELECT 'settings ' || pg_catalog.string_agg(name, ',') FROM pg_catalog.pg_settings \
      WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND pg_catalog.lower(name) NOT IN ({known})), \
    (SELECT 'prepared statements ' || pg_catalog.string_agg(name, ',') FROM pg_catalog.pg_prepared_statements \
      WHERE name NOT LIKE 'pgshunt\\_%' ESCAPE '\\'), \
    (SELECT 'advisory locks ' || pg_catalog.count(*) FROM pg_catalog.pg_locks \
      WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() HAVING pg_catalog.count(*) > 0), \
    (SELECT 'channels ' || pg_catalog.string_agg(c, ',') FROM pg_catalog.pg_listening_channels() c), \
    (SELECT 'temporary objects ' || pg_catalog.string_agg(relname, ',') FROM pg_catalog.pg_class \
      WHERE relnamespace = pg_catalog.pg_my_temp_schema()), \
    (SELECT 'cursors ' || pg_catalog.string_agg(name, ',') FROM pg_catalog.pg_cursors), \
    (SELECT 'the user ' || session_user FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a \
      WHERE a.usesysid <> pg_catalog.to_regrole(pg_catalog.quote_ident(session_user)) \
        AND 'session_authorization' NOT IN ({known})), \
    (SELECT 'the role ' || r FROM pg_catalog.current_setting('role') r WHERE r <> 'none' AND 'role' NOT IN ({known})))";

impl Held {
    /// Looks at a server that is about to be given back as it is. A finding taints it.
    pub async fn verify(&mut self) {
        if self.opaque || self.batch_open || self.is_replica || !self.server.is_clean() {
            return;
        }
        let quoted = |(name, _): (&str, &str)| format!("'{}'", name.replace('\'', "''"));
        let mut known: Vec<String> = self.server.vars.entries().map(quoted).collect();
        known.push("''".to_owned());
        let question = QUESTION.replace("{known}", &known.join(","));
        let Ok(answer) = self.run(&question, Fate::Capture).await else {
            self.server.taint("it does not answer");
            return;
        };
        // a timeout of the session's own may forbid the question
        let found = answer.captured.first().filter(|found| !found.is_empty());
        if let Some(found) = found {
            let found = String::from_utf8_lossy(found);
            tracing::error!(%found, pid = self.server.pid, settings = ?self.server.vars, "a server was given back that is not as a fresh one");
            self.server.taint("it is not as a fresh one");
        }
    }
}
