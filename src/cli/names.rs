//! Names beside ids: people know their tenants and keys by name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::control::{Service, read};
use super::failure::Failure;
use super::output::field;

/// Beside `tenant_id` and `key_id` of each row: what they are called, as `tenant`
/// and `key`. What is gone has no name.
pub(super) async fn add(service: &Service, rows: &mut [Value]) -> Result<(), Failure> {
    let mut names = Names { service, known: BTreeMap::new() };
    for row in rows {
        let Some(tenant) = row["tenant_id"].as_str().map(str::to_owned) else { continue };
        let of_tenant = format!("/admin/tenants/{tenant}");
        row["tenant"] = beside(&tenant, names.of(&of_tenant).await?);
        if let Some(key) = row["key_id"].as_str().map(str::to_owned) {
            row["key"] = beside(&key, names.of(&format!("{of_tenant}/keys/{key}")).await?);
        }
    }
    Ok(())
}

/// Names that have been asked for, by where they are.
struct Names<'a> {
    service: &'a Service,
    known: BTreeMap<String, Option<String>>,
}

impl Names<'_> {
    async fn of(&mut self, path: &str) -> Result<Option<String>, Failure> {
        if let Some(name) = self.known.get(path) {
            return Ok(name.clone());
        }
        let name = match self.service.get(path).await {
            Ok(text) => read::<Value>(&text)?["name"].as_str().map(str::to_owned),
            Err(Failure::Refused(_)) => None,
            Err(failure) => return Err(failure),
        };
        self.known.insert(path.into(), name.clone());
        Ok(name)
    }
}

fn beside(id: &str, name: Option<String>) -> Value {
    name.map_or_else(|| id.to_owned(), |name| format!("{name} ({id})")).into()
}

/// The column of a row's tenant, with its name.
pub(super) fn tenant(row: &Value) -> String {
    field(row, if row["tenant"].is_null() { "tenant_id" } else { "tenant" })
}

/// The column of a row's key, with its name.
pub(super) fn key(row: &Value) -> String {
    field(row, if row["key"].is_null() { "key_id" } else { "key" })
}
