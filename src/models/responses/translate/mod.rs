//! Responses over chat completions: what is asked, and what is answered. Pure
//! functions of what the client and the provider sent.

mod answer;
mod request;

pub(super) use answer::ChatEvents;
pub(super) use request::{origin, to_chat};
