//! What there is to say about backups.

use super::Warning;
use crate::backups::Standing;

/// In a few words, for the service manager.
pub(super) fn in_short(standing: &Standing) -> Option<String> {
    let at = standing.last.as_ref()?.at.to_string();
    Some(format!("last backup {}", at.get(..16).unwrap_or(&at)))
}

/// What is not as it should be.
pub(super) fn warnings(standing: &Standing) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(problem) = &standing.problem {
        let what = format!("no backup has succeeded since {}: {}", problem.since, problem.what);
        warnings.push(Warning::new(what, "mend what it names; agentd backup create tries again at once"));
    } else if standing.is_late {
        let what = "the last backup is much older than backup.every";
        warnings.push(Warning::new(what, "agentd job list --tool backup.create shows what became of the last ones"));
    }
    if let Some((drill, what)) = standing.drill.as_ref().and_then(|drill| Some((drill, drill.problem.as_ref()?))) {
        let what = format!("the backup {} could not be restored as a test: {what}", drill.name);
        warnings.push(Warning::new(what, "agentd backup create makes another, agentd backup verify tries it out"));
    }
    warnings
}
