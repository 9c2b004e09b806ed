//! Every code that a problem can carry. A test reads the source for codes that
//! are missing here.

/// A problem's status and code, which go together, and what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// HTTP status.
    pub status: u16,
    /// The stable name.
    pub code: &'static str,
    /// For people.
    pub meaning: &'static str,
}

const fn code(status: u16, code: &'static str, meaning: &'static str) -> Code {
    Code { status, code, meaning }
}

/// All of them, by status and name.
pub const CODES: &[Code] = &[
    code(400, "bad_request", "anything else about the request"),
    code(400, "context_length_exceeded", "the request is larger than the model takes"),
    code(400, "incomplete_body", "the body did not arrive whole"),
    code(400, "invalid_idempotency_key", "not 1 to 255 printable ASCII characters"),
    code(400, "invalid_input", "the input does not fit the tool's schema"),
    code(400, "invalid_query", "the query string cannot be read"),
    code(400, "invalid_request", "a field or parameter is wrong; `errors` says where"),
    code(400, "local_only", "`X-Agentd-Tenant` counts over the control socket only"),
    code(400, "malformed_json", "the body is empty or not JSON"),
    code(400, "not_available", "an option that this version does not have"),
    code(400, "not_background", "only a background response can be cancelled"),
    code(
        400,
        "previous_response_not_found",
        "the response to go on from was not stored, or is no longer, or is not yours",
    ),
    code(400, "too_deep", "more than 64 arrays or objects inside one another"),
    code(400, "unknown_field", "a field that the route does not know"),
    code(400, "unknown_price", "nobody knows what the model costs; the administrator sets it"),
    code(400, "unknown_tool", "no such tool"),
    code(401, "unauthorized", "no credential that counts"),
    code(402, "budget_exceeded", "a budget cannot pay; the status is that of `budget.exhausted_status`"),
    code(403, "csrf_token_wrong", "a session's cookie without its `X-CSRF-Token`"),
    code(403, "forbidden", "the credential may not do this"),
    code(403, "origin_not_allowed", "the web page that sends this is not on the tenant's list"),
    code(404, "model_not_found", "no such model, alias or provider"),
    code(404, "no_route", "nothing at this path"),
    code(404, "not_found", "no such thing, or not yours"),
    code(405, "method_not_allowed", "see the `Allow` header"),
    code(408, "request_timeout", "the body came too slowly"),
    code(409, "already_set_up", "the service has an administrator already"),
    code(409, "backup_under_way", "a backup is being made or verified already"),
    code(409, "batch_ended", "it has ended and cannot be cancelled"),
    code(409, "concurrency_conflict", "an open job has the same `concurrency_key`"),
    code(409, "configured", "the configuration says it, so it is changed there"),
    code(409, "in_use", "something else needs it"),
    code(409, "job_finished", "it has ended and cannot be cancelled"),
    code(409, "job_not_finished", "it has not ended and cannot be deleted or done again"),
    code(409, "key_not_active", "the key is revoked, expired or has been rotated"),
    code(409, "last_admin", "somebody must be left who may change everything"),
    code(409, "master_key_configured", "the master key is configured, so it is changed there"),
    code(409, "name_taken", "another user has that name"),
    code(409, "no_certificate", "there is no certificate that could be revoked"),
    code(409, "renewal_under_way", "the certificate is being renewed already"),
    code(409, "unknown_tool", "the job's tool is not in this version"),
    code(413, "files_full", "a tenant's files would be more than they may be"),
    code(413, "payload_too_large", "the body is over the limit"),
    code(415, "unsupported_media_type", "plainly not JSON, or encoded"),
    code(422, "configuration_invalid", "the configuration has faults; `errors` lists them"),
    code(422, "idempotency_key_reused", "the key was used for another request"),
    code(429, "daily_quota_exceeded", "the tenant's jobs of this day are used up"),
    code(429, "provider_rate_limited", "the provider of the model is asked too often"),
    code(429, "queue_full", "too many jobs wait, over all or of this tenant"),
    code(429, "rate_limited", "too many requests in the last minute"),
    code(429, "too_many_attempts", "too many wrong admin keys or passwords from this address"),
    code(429, "too_many_logins", "too many passwords are being checked at this moment"),
    code(500, "internal", "a fault of the service; its log has the cause"),
    code(502, "backup_target_failed", "the place that backups are sent to could not be asked"),
    code(502, "directory_refused", "the ACME directory refused, or could not be asked"),
    code(502, "provider_failed", "the provider of the model failed or broke off"),
    code(502, "provider_key_refused", "the provider refuses the key that the service has for it"),
    code(502, "provider_unreachable", "the provider of the model cannot be reached"),
    code(503, "disk_full", "the disk is full; nothing was written"),
    code(503, "disk_nearly_full", "no new jobs, so that running ones can end"),
    code(503, "disk_read_only", "the disk takes no writes; nothing was written"),
    code(503, "draining", "the service is stopping"),
    code(503, "overloaded", "too much waits for the database"),
    code(503, "provider_busy", "too many calls to the provider are under way"),
    code(
        503,
        "provider_unavailable",
        "the provider is overloaded, or disabled for a while after failures (circuit breaker)",
    ),
    code(503, "query_timeout", "narrow the filters or ask for a smaller page"),
    code(503, "reload_timeout", "the configuration could not be read in time"),
    code(503, "starting", "the service has just been started"),
    code(503, "storage_unavailable", "the database cannot be used; nothing was written"),
    code(504, "provider_timeout", "the provider of the model did not answer in time"),
    code(529, "provider_unavailable", "the provider says that it is overloaded"),
];
