//! When the clock is a worry.

use std::time::Duration;

use super::Warning;
use crate::clock::Held;

/// That the clock was set forward while the service ran. After a stop it is only
/// later than before.
pub(super) fn warning(held: Option<Held>) -> Option<Warning> {
    let Held { ahead, left, .. } = held.filter(|held| held.was_set)?;
    let what = format!(
        "the clock was set forward by {}: nothing is deleted for its age until it has run on like that for another {}",
        in_words(ahead),
        in_words(left)
    );
    Some(Warning::new(
        what,
        "look whether the time is right (timedatectl), and set it; if it is, there is nothing to do",
    ))
}

fn in_words(span: Duration) -> String {
    let minutes = (span.as_secs() + 30) / 60;
    match (minutes / 1440, minutes / 60, minutes) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_is_a_warning() {
        let held = |was_set| {
            Some(Held { ahead: Duration::from_secs(400 * 86_400), left: Duration::from_secs(23 * 3600 + 60), was_set })
        };
        let said = warning(held(true)).expect("a warning").what;
        assert!(said.contains("by 400 d") && said.contains("another 23 h"), "{said}");
        assert_eq!(warning(held(false)), None);
        assert_eq!(warning(None), None);
    }
}
