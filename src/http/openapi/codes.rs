//! Every code that a problem can carry. A test reads the source for codes that
//! are missing here.

use actix_web::http::StatusCode;

/// A problem's status and code, which go together, and what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// HTTP status.
    pub status: StatusCode,
    /// The stable name.
    pub code: &'static str,
    /// For people.
    pub meaning: &'static str,
}

const fn code(status: StatusCode, code: &'static str, meaning: &'static str) -> Code {
    Code { status, code, meaning }
}

/// All of them, by status and name.
pub const CODES: &[Code] = &[
    code(StatusCode::BAD_REQUEST, "bad_request", "anything else about the request"),
    code(StatusCode::BAD_REQUEST, "context_length_exceeded", "the request is larger than the model takes"),
    code(StatusCode::BAD_REQUEST, "incomplete_body", "the body did not arrive whole"),
    code(StatusCode::BAD_REQUEST, "invalid_idempotency_key", "not 1 to 255 printable ASCII characters"),
    code(StatusCode::BAD_REQUEST, "invalid_input", "the input does not fit the tool's schema"),
    code(StatusCode::BAD_REQUEST, "invalid_query", "the query string cannot be read"),
    code(StatusCode::BAD_REQUEST, "invalid_request", "a field or parameter is wrong; `errors` says where"),
    code(StatusCode::BAD_REQUEST, "local_only", "`X-Agentd-Tenant` counts over the control socket only"),
    code(StatusCode::BAD_REQUEST, "malformed_json", "the body is empty or not JSON"),
    code(StatusCode::BAD_REQUEST, "not_available", "an option that this version does not have"),
    code(StatusCode::BAD_REQUEST, "not_background", "only a background response can be cancelled"),
    code(
        StatusCode::BAD_REQUEST,
        "previous_response_not_found",
        "the response to go on from was not stored, or is no longer, or is not yours",
    ),
    code(StatusCode::BAD_REQUEST, "too_deep", "more than 64 arrays or objects inside one another"),
    code(StatusCode::BAD_REQUEST, "unknown_field", "a field that the route does not know"),
    code(StatusCode::BAD_REQUEST, "unknown_price", "nobody knows what the model costs; the administrator sets it"),
    code(StatusCode::BAD_REQUEST, "unknown_tool", "no such tool"),
    code(StatusCode::UNAUTHORIZED, "unauthorized", "no credential that counts"),
    code(
        StatusCode::PAYMENT_REQUIRED,
        "budget_exceeded",
        "a budget cannot pay; the status is that of `budget.exhausted_status`",
    ),
    code(StatusCode::FORBIDDEN, "csrf_token_wrong", "a session's cookie without its `X-CSRF-Token`"),
    code(StatusCode::FORBIDDEN, "forbidden", "the credential may not do this"),
    code(StatusCode::FORBIDDEN, "origin_not_allowed", "the web page that sends this is not on the tenant's list"),
    code(StatusCode::NOT_FOUND, "model_not_found", "no such model, alias or provider"),
    code(StatusCode::NOT_FOUND, "no_route", "nothing at this path"),
    code(StatusCode::NOT_FOUND, "not_found", "no such thing, or not yours"),
    code(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see the `Allow` header"),
    code(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body came too slowly"),
    code(StatusCode::CONFLICT, "already_set_up", "the service has an administrator already"),
    code(StatusCode::CONFLICT, "backup_under_way", "a backup is being made or verified already"),
    code(StatusCode::CONFLICT, "batch_ended", "it has ended and cannot be cancelled"),
    code(StatusCode::CONFLICT, "concurrency_conflict", "an open job has the same `concurrency_key`"),
    code(StatusCode::CONFLICT, "configured", "the configuration says it, so it is changed there"),
    code(StatusCode::CONFLICT, "in_use", "something else needs it"),
    code(StatusCode::CONFLICT, "job_finished", "it has ended and cannot be cancelled"),
    code(StatusCode::CONFLICT, "job_not_finished", "it has not ended and cannot be deleted or done again"),
    code(StatusCode::CONFLICT, "key_not_active", "the key is revoked, expired or has been rotated"),
    code(StatusCode::CONFLICT, "last_admin", "somebody must be left who may change everything"),
    code(StatusCode::CONFLICT, "master_key_configured", "the master key is configured, so it is changed there"),
    code(StatusCode::CONFLICT, "name_taken", "another user has that name"),
    code(StatusCode::CONFLICT, "no_certificate", "there is no certificate that could be revoked"),
    code(StatusCode::CONFLICT, "renewal_under_way", "the certificate is being renewed already"),
    code(StatusCode::CONFLICT, "unknown_tool", "the job's tool is not in this version"),
    code(StatusCode::PAYLOAD_TOO_LARGE, "files_full", "a tenant's files would be more than they may be"),
    code(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "the body is over the limit"),
    code(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "plainly not JSON, or encoded"),
    code(
        StatusCode::UNPROCESSABLE_ENTITY,
        "configuration_invalid",
        "the configuration has faults; `errors` lists them",
    ),
    code(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "the key was used for another request"),
    code(StatusCode::TOO_MANY_REQUESTS, "daily_quota_exceeded", "the tenant's jobs of this day are used up"),
    code(StatusCode::TOO_MANY_REQUESTS, "provider_rate_limited", "the provider of the model is asked too often"),
    code(StatusCode::TOO_MANY_REQUESTS, "queue_full", "too many jobs wait, over all or of this tenant"),
    code(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests in the last minute"),
    code(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_attempts",
        "too many wrong admin keys or passwords from this address",
    ),
    code(StatusCode::TOO_MANY_REQUESTS, "too_many_logins", "too many passwords are being checked at this moment"),
    code(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a fault of the service; its log has the cause"),
    code(StatusCode::BAD_GATEWAY, "backup_target_failed", "the place that backups are sent to could not be asked"),
    code(StatusCode::BAD_GATEWAY, "directory_refused", "the ACME directory refused, or could not be asked"),
    code(StatusCode::BAD_GATEWAY, "provider_failed", "the provider of the model failed or broke off"),
    code(StatusCode::BAD_GATEWAY, "provider_key_refused", "the provider refuses the key that the service has for it"),
    code(StatusCode::BAD_GATEWAY, "provider_unreachable", "the provider of the model cannot be reached"),
    code(StatusCode::SERVICE_UNAVAILABLE, "disk_full", "the disk is full; nothing was written"),
    code(StatusCode::SERVICE_UNAVAILABLE, "disk_nearly_full", "no new jobs, so that running ones can end"),
    code(StatusCode::SERVICE_UNAVAILABLE, "disk_read_only", "the disk takes no writes; nothing was written"),
    code(StatusCode::SERVICE_UNAVAILABLE, "draining", "the service is stopping"),
    code(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much waits for the database"),
    code(StatusCode::SERVICE_UNAVAILABLE, "provider_busy", "too many calls to the provider are under way"),
    code(
        StatusCode::SERVICE_UNAVAILABLE,
        "provider_unavailable",
        "the provider fails too often and is left alone for a while",
    ),
    code(StatusCode::SERVICE_UNAVAILABLE, "query_timeout", "narrow the filters or ask for a smaller page"),
    code(StatusCode::SERVICE_UNAVAILABLE, "reload_timeout", "the configuration could not be read in time"),
    code(StatusCode::SERVICE_UNAVAILABLE, "starting", "the service has just been started"),
    code(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "the database cannot be used; nothing was written"),
    code(StatusCode::GATEWAY_TIMEOUT, "provider_timeout", "the provider of the model did not answer in time"),
];
