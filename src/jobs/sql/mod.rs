//! Every statement on jobs: `read` for looking, `write` for changing, `care`
//! for what happens at start and over time.

pub(super) mod care;
pub(super) mod read;
pub(super) mod steps;
pub(super) mod write;
