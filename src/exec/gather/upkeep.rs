//! Now and then: scratch databases that nobody will ask for again are dropped.

use crate::cluster::scratch::{ScratchError, Workshop, database_name};
use crate::exec::backend::Backend;
use std::collections::HashSet;

impl Backend {
    /// Where scratch databases are made.
    #[must_use]
    pub fn scratch_workshop(&self) -> Workshop<'_> {
        let home = self.snapshot().database.home;
        let member = self.topology.scratch(home);
        self.loader().workshop(self.topology.address(member))
    }

    /// Nothing depends on it: what fails is tried again the next time.
    pub async fn drop_old_scratches(&self) {
        match self.drop_rubbish().await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "old scratch databases"),
            Err(error) => tracing::debug!(%error, "old scratch databases could not be dropped"),
        }
    }

    async fn drop_rubbish(&self) -> Result<usize, ScratchError> {
        let workshop = self.scratch_workshop();
        let version = self.snapshot().catalog.version;
        if self.scratches.has_idle() {
            let recipe = self.scratches.recipe(self, version).await?;
            self.scratches.close_idle_of_others(recipe.fingerprint);
        }
        let mut abandoned = workshop.abandoned().await?;
        if abandoned.is_empty() {
            return Ok(0);
        }
        let recipe = self.scratches.recipe(self, version).await?;
        let kept = self.kept_scratches(&workshop);
        abandoned.retain(|one| one.is_rubbish(recipe.fingerprint, &kept));
        workshop.drop_rubbish(&abandoned).await
    }

    /// The names that this instance may ask for.
    fn kept_scratches(&self, workshop: &Workshop<'_>) -> HashSet<String> {
        let most = self.config.limits.gather_connections_max;
        let users = self.config.users.iter().map(|user| &user.server_user);
        users
            .flat_map(|user| (1..=most).map(|n| database_name(workshop.database, user, n)))
            .collect()
    }
}
