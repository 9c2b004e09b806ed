//! The administrator of this machine, who comes over the control socket. Whoever
//! may open the socket's file may do everything, so no key is asked for; see
//! docs/decisions/0017.

use std::sync::Arc;

use actix_web::{HttpMessage as _, HttpRequest};
use uuid::Uuid;

use super::{Auth, KeyEntry};
use crate::http::{KnownCaller, LocalPeer, Problem};

/// Names the tenant that the local administrator acts for.
const TENANT: &str = "x-agentd-tenant";

/// Whether the request came over the control socket.
///
/// # Errors
/// When it did not and names a tenant to act for all the same.
pub(super) fn is_local(request: &HttpRequest) -> Result<bool, Problem> {
    let local = request.conn_data::<LocalPeer>().is_some();
    if !local && request.headers().contains_key(TENANT) {
        let problem = Problem::bad_request("local_only", "X-Agentd-Tenant counts over the control socket only");
        return Err(problem.with_hint("leave it out; a tenant's API key says whose it is"));
    }
    Ok(local)
}

/// What the local administrator acts with, where the request names a tenant.
///
/// # Errors
/// When there is no such tenant, or the request did not come over the socket.
pub(super) fn acting_for(request: &HttpRequest, auth: &Auth) -> Result<Option<Arc<KeyEntry>>, Problem> {
    if !is_local(request)? {
        return Ok(None);
    }
    let Some(id) = request.headers().get(TENANT) else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| Uuid::parse_str(id).ok());
    let entry = id.and_then(|id| auth.keyring.local(id)).ok_or_else(|| Problem::not_found("tenant"))?;
    request.extensions_mut().insert(KnownCaller {
        no: entry.tenant.no,
        tenant: entry.tenant.id.to_string(),
        key: entry.id.clone(),
        // Whoever looks after the machine is not slowed down.
        rate: None,
    });
    Ok(Some(entry))
}
