//! What a deleted tenant leaves behind in the rooms, beside its jobs and keys.

use crate::budgets::Budgets;
use crate::db;
use crate::models::responses::Responses;

/// The rooms that keep something for tenants. Clones share them.
#[derive(Clone)]
pub(super) struct Left {
    pub budgets: Budgets,
    pub responses: Responses,
}

impl Left {
    /// Takes away what belongs to a tenant.
    ///
    /// # Errors
    /// When the database cannot be written. What is left is for the next start.
    pub(super) async fn clear(&self, tenant: i64) -> Result<(), db::Error> {
        self.responses.clear_tenant(tenant).await?;
        self.budgets.clear_tenant(tenant).await
    }
}
