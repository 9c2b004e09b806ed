//! What a client probably meant that asks for a path where nothing is: a slash too many, a prefix that is missing
//! or twice, another case, a typing error. Clients of `OpenAI`'s interface are told in the form that they read.

use std::cmp::Reverse;

use percent_encoding::percent_decode_str;
use strsim::damerau_levenshtein;

/// Bytes of a path that is looked at.
const LONGEST: usize = 1024;
/// What stands before the routes of this service or of others.
const PREFIXES: [&str; 7] = ["api", "v1", "v2", "v1beta", "openai", "llm", "proxy"];
/// Routes of `OpenAI`'s interface begin so that the service does not have.
const OTHERS: [&str; 22] = [
    "assistants",
    "audio",
    "batches",
    "chat",
    "completions",
    "containers",
    "conversations",
    "edits",
    "embeddings",
    "engines",
    "evals",
    "files",
    "fine-tunes",
    "fine_tuning",
    "images",
    "moderations",
    "realtime",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
];

/// What a client probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// A route of `OpenAI`'s interface; the nearest one that there is, where one is near.
    OpenAi(Option<String>),
    /// A route of the service's own.
    Own(String),
    /// Nothing that is known.
    Nothing,
}

/// Every path of the service.
#[derive(Debug, Default)]
pub(super) struct Paths(Vec<Known>);

/// A path; what varies stands in braces.
#[derive(Debug)]
struct Known {
    path: &'static str,
    openai: bool,
    /// Whether its last parameter also takes slashes.
    tail: bool,
}

/// How well a path fits: the fewer changes the better, then the more words that do not vary, then what begins the
/// same, then the shorter.
type Fit = (usize, Reverse<usize>, bool, usize);

impl Paths {
    pub(super) fn add(&mut self, path: &'static str, openai: bool, tail: bool) {
        self.0.push(Known { path, openai, tail });
    }

    /// What is nearest to a path.
    pub(super) fn meant(&self, path: &str) -> Meant {
        if path.len() > LONGEST {
            return Meant::Nothing;
        }
        let given = segments(path);
        let lower: Vec<_> = given.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let near = self.0.iter().filter_map(|known| Some((known.fit(&lower)?, known)));
        if let Some(((_, start), known)) = near.min_by_key(|((fit, _), _)| *fit) {
            let path = known.filled(&given[start..]);
            return if known.openai { Meant::OpenAi(Some(path)) } else { Meant::Own(path) };
        }
        self.other(&lower)
    }

    /// A route of `OpenAI`'s interface that the service does not have, and what does the same.
    fn other(&self, given: &[&str]) -> Meant {
        let rest = given.iter().position(|segment| !PREFIXES.contains(segment)).map_or(&[][..], |at| &given[at..]);
        let instead = match rest {
            [.., "completions"] | ["chat", ..] => "/v1/chat/completions",
            ["engines"] => "/v1/models",
            ["audio", "translations"] => "/v1/audio/transcriptions",
            ["assistants" | "conversations" | "threads", ..] => "/v1/responses",
            _ => "",
        };
        // Another sign than a slash, or none, between the words.
        let joined = rest.concat().replace(['-', '_'], "");
        let is_joined = |known: &&Known| known.openai && !joined.is_empty() && known.words().concat() == joined;
        if let Some(known) = self.0.iter().find(is_joined) {
            return Meant::OpenAi(Some(known.path.to_owned()));
        }
        let instead = self.0.iter().find(|known| known.openai && known.path == instead);
        let has_prefix = rest.len() < given.len();
        let is_other = has_prefix && rest.first().is_some_and(|first| OTHERS.contains(first));
        match instead {
            Some(known) if is_other || matches!(rest, [.., "completions"] | ["chat"]) => {
                Meant::OpenAi(Some(known.path.to_owned()))
            }
            _ if is_other => Meant::OpenAi(None),
            _ => Meant::Nothing,
        }
    }

    /// The routes of `OpenAI`'s interface that do not vary.
    pub(super) fn of_openai(&self) -> Vec<&'static str> {
        let fixed = self.0.iter().filter(|known| known.openai && !known.path.contains('{'));
        fixed.map(|known| known.path).collect()
    }
}

impl Known {
    /// Its words without the prefix that they all have.
    fn words(&self) -> Vec<&'static str> {
        let words = self.path.split('/').filter(|word| !word.is_empty());
        words.skip_while(|word| matches!(*word, "api" | "v1")).collect()
    }

    /// How well it fits to the end of a path, and where that begins.
    fn fit(&self, given: &[&str]) -> Option<(Fit, usize)> {
        let words = self.words();
        let fixed = words.iter().filter(|word| !word.starts_with('{')).count();
        let last = given.len().checked_sub(words.len()).filter(|_| fixed > 0)?;
        let first = if self.tail { 0 } else { last };
        (first..=last).find_map(|start| {
            let (before, rest) = given.split_at(start);
            let changes = changes(&words, rest)?;
            let differs = !self.path.split('/').skip(1).take(before.len()).eq(before.iter().copied());
            let fit = (changes, Reverse(fixed), differs, self.path.len());
            self.may_follow(before, changes, fixed).then_some((fit, start))
        })
    }

    /// Whether these can stand before it.
    fn may_follow(&self, before: &[&str], changes: usize, fixed: usize) -> bool {
        if before.iter().all(|segment| PREFIXES.contains(segment)) {
            return true;
        }
        if changes > 0 || before.contains(&"admin") {
            return false;
        }
        let whole = before.last() == Some(&"v1") && self.path.starts_with("/v1/");
        whole || self.openai && (fixed > 1 || !self.path.contains('{'))
    }

    /// The path with what was given where it varies.
    fn filled(&self, given: &[String]) -> String {
        let words: Vec<_> = self.path.split('/').skip(1).collect();
        let before = words.len() - self.words().len();
        let mut parts: Vec<_> = words[..before].iter().map(ToString::to_string).collect();
        for (index, value) in given.iter().enumerate() {
            match words.get(before + index).filter(|word| !word.starts_with('{')) {
                Some(word) => parts.push((*word).to_owned()),
                None => parts.push(super::path_segment(value)),
            }
        }
        format!("/{}", parts.join("/"))
    }
}

/// The changes that make the beginning of `given` these words; `None` when they are too many.
fn changes(words: &[&str], given: &[&str]) -> Option<usize> {
    let pairs = words.iter().zip(given);
    pairs.filter(|(word, _)| !word.starts_with('{')).try_fold(0, |sum, (word, given)| {
        let allowed = match word.len() {
            0..=3 => 0,
            4..=6 => 1,
            _ => 2,
        };
        if word.len().abs_diff(given.len()) > allowed {
            return None;
        }
        let changes = if word == given { 0 } else { damerau_levenshtein(word, given) };
        (changes <= allowed).then_some(sum + changes)
    })
}

/// What stands between the slashes, as it was meant.
fn segments(path: &str) -> Vec<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let parts = decoded.split(['/', '\\']).map(|part| part.trim_matches(|c: char| c.is_whitespace() || c.is_control()));
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths() -> Paths {
        let mut paths = Paths::default();
        for path in [
            "/v1/chat/completions",
            "/v1/models",
            "/v1/responses",
            "/v1/responses/{id}",
            "/v1/responses/{id}/cancel",
            "/v1/embeddings",
            "/v1/audio/transcriptions",
            "/v1/files",
            "/v1/files/{id}/content",
        ] {
            paths.add(path, true, false);
        }
        paths.add("/v1/models/{model}", true, true);
        for path in
            ["/", "/health", "/api/v1/health", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events", "/admin/models"]
        {
            paths.add(path, false, false);
        }
        paths
    }

    #[test]
    fn clients_of_openai_are_led_to_the_route_that_they_meant() {
        for (given, meant) in [
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1//chat///completions", "/v1/chat/completions"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            ("/openai/v1/chat/completions", "/v1/chat/completions"),
            ("/api/v1/chat/completions", "/v1/chat/completions"),
            ("/V1/Chat/Completions", "/v1/chat/completions"),
            ("/v1/chat/completion", "/v1/chat/completions"),
            ("/v1/chat/compeltions", "/v1/chat/completions"),
            ("/v1/chat/completions%20", "/v1/chat/completions"),
            ("/v1%2Fchat%2Fcompletions", "/v1/chat/completions"),
            ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/chatcmpl-1", "/v1/chat/completions"),
            ("/openai/deployments/gpt-4o/chat/completions", "/v1/chat/completions"),
            ("/gateway/team-a/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat", "/v1/chat/completions"),
            ("/v1/chat_completions", "/v1/chat/completions"),
            ("/v1/chat-completions", "/v1/chat/completions"),
            ("/chatcompletions", "/v1/chat/completions"),
            ("/chat", "/v1/chat/completions"),
            ("/v1/completions", "/v1/chat/completions"),
            ("/completions", "/v1/chat/completions"),
            ("/v1/engines/davinci/completions", "/v1/chat/completions"),
            ("/v1/engines/ada/embeddings", "/v1/embeddings"),
            ("/v1/engines", "/v1/models"),
            ("/models", "/v1/models"),
            ("/v1/models/", "/v1/models"),
            ("/v1/model", "/v1/models"),
            ("/v1/chat/completions/models", "/v1/models"),
            ("/models/gpt-4o", "/v1/models/gpt-4o"),
            ("/api/models/openai/gpt-4o", "/v1/models/openai/gpt-4o"),
            ("/v1/v1/models/a/b/c", "/v1/models/a/b/c"),
            ("/responses/resp_1/cancel/", "/v1/responses/resp_1/cancel"),
            ("/v1/respones", "/v1/responses"),
            ("/v1/file/x/content", "/v1/files/x/content"),
            ("/v1/audio/translations", "/v1/audio/transcriptions"),
            ("/v1/threads/t/runs", "/v1/responses"),
        ] {
            assert_eq!(paths().meant(given), Meant::OpenAi(Some(meant.into())), "{given}");
        }
        for given in ["/v1/images/generations", "/v1/moderations", "/openai/v1/fine_tuning/jobs", "/v1/files/a/b/c"] {
            assert_eq!(paths().meant(given), Meant::OpenAi(None), "{given}");
        }
    }

    #[test]
    fn the_services_own_routes_are_found_too() {
        for (given, meant) in [
            ("/v1/jobs/", "/v1/jobs"),
            ("/v1/job", "/v1/jobs"),
            ("/jobs", "/v1/jobs"),
            ("/api/v1/jobs/X1/events", "/v1/jobs/X1/events"),
            ("/somewhere/v1/jobs", "/v1/jobs"),
            ("//health", "/health"),
            ("/healthz", "/health"),
            ("/v1/health", "/health"),
            ("//api/v1/health/", "/api/v1/health"),
            ("/admin/models/", "/admin/models"),
        ] {
            assert_eq!(paths().meant(given), Meant::Own(meant.into()), "{given}");
        }
    }

    #[test]
    fn what_is_far_from_everything_is_nothing() {
        for given in [
            "/",
            "/v1",
            "/nonsense",
            "/a/b/c",
            "/%2e%2e/etc/passwd",
            "/%C3%BC",
            "/images/logo.png",
            "/files/a/b",
            "/static/files/logo.png",
            "/admin/v1/models",
            "/admin",
            "/wp-login.php",
        ] {
            assert_eq!(paths().meant(given), Meant::Nothing, "{given}");
        }
        assert_eq!(paths().meant(&format!("/v1/models/{}/", "x".repeat(LONGEST))), Meant::Nothing);
    }

    proptest! {
        #[test]
        fn any_path_is_answered_with_one_that_exists(given in "/[ -~]{0,60}") {
            let paths = paths();
            if let Meant::OpenAi(Some(path)) | Meant::Own(path) = paths.meant(&given) {
                prop_assert!(matches!(paths.meant(&path), Meant::OpenAi(Some(same)) | Meant::Own(same) if same == path));
            }
        }

        #[test]
        fn slashes_and_prefixes_change_nothing(slashes in "/{1,3}", prefix in "(api/|v1/|openai/){0,3}", end in "/{0,2}") {
            let given = format!("{slashes}{prefix}chat{slashes}completions{end}");
            prop_assert_eq!(paths().meant(&given), Meant::OpenAi(Some("/v1/chat/completions".into())), "{}", given);
        }
    }
}
