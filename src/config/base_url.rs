//! Where a provider of models is: the address that the paths of its routes are added to. People often write the
//! address of one route, or leave the version out.

use url::Url;

use super::setting::Setting;

/// The routes that are added to it.
const ROUTES: [&[&str]; 12] = [
    &["chat", "completions"],
    &["audio", "speech"],
    &["audio", "transcriptions"],
    &["audio", "translations"],
    &["images", "generations"],
    &["completions"],
    &["responses"],
    &["embeddings"],
    &["models"],
    &["moderations"],
    &["batches"],
    &["files"],
];

/// A provider's address, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is certainly wrong with it, and what it should be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.trim_matches(['"', '\'', '`', '<', '>']).trim();
        let url = Url::parse(inner).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else { return Err(no_url(inner)) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or a password; a key is set by itself".into());
        }
        let right = corrected(&url);
        let fault = if inner.len() < text.len() {
            "has quotes or brackets around it".into()
        } else if url.query().is_some() || url.fragment().is_some() {
            "must end with the path".into()
        } else if let Some(route) = route_at_end(&url) {
            format!("ends in {route}, which is added to it")
        } else if right.path() != url.path().trim_end_matches('/') && right.path() != url.path() {
            "has a part of its path twice, or blanks or empty parts in it".into()
        } else {
            return Ok(Self(right));
        };
        Err(format!("{fault}; it should be {}", shown(&right)))
    }

    /// What is probably wrong with it, and cannot be known.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let is_version = |part: &str| {
            let digits = part.strip_prefix(['v', 'V']).unwrap_or_default();
            digits.starts_with(|first: char| first.is_ascii_digit())
        };
        if parts(&self.0).any(is_version) {
            return None;
        }
        let given = self.to_string();
        Some(format!(
            "{given} has no version such as /v1 in its path, which most providers need: is it {given}/v1? Calls go to \
             {given}/chat/completions"
        ))
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

/// Without a slash at its end, so that a path can follow.
impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// What to say of a text that is no address of the web.
fn no_url(text: &str) -> String {
    let example = "must be a URL such as https://api.openai.com/v1";
    // What has a password in it is not repeated.
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    if !plain || text.contains("://") {
        return example.into();
    }
    let host = text.split(['/', ':']).next().unwrap_or_default();
    let scheme = if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() { "http" } else { "https" };
    match Url::parse(&format!("{scheme}://{text}")) {
        Ok(url) if url.host_str().is_some_and(|host| host.contains('.') || host == "localhost") => {
            format!("has no {scheme}:// at its beginning; it should be {}", shown(&corrected(&url)))
        }
        _ => example.into(),
    }
}

/// The parts of its path that are not empty.
fn parts(url: &Url) -> impl Iterator<Item = &str> {
    url.path().split('/').filter(|part| !part.is_empty())
}

fn ends_in(parts: &[&str], route: &[&str]) -> bool {
    let from = parts.len().checked_sub(route.len());
    from.is_some_and(|from| parts[from..].iter().zip(route).all(|(part, word)| part.eq_ignore_ascii_case(word)))
}

fn route_at_end(url: &Url) -> Option<String> {
    let parts: Vec<_> = parts(url).collect();
    let route = ROUTES.iter().find(|route| ends_in(&parts, route))?;
    Some(format!("/{}", route.join("/")))
}

/// As it was meant: up to its path, without routes at its end, empty parts, blanks, and a version twice.
fn corrected(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().replace("%20", "").replace("%09", "");
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    while let Some(route) = ROUTES.iter().find(|route| ends_in(&parts, route)) {
        parts.truncate(parts.len() - route.len());
    }
    parts.dedup_by(|next, before| next == before && next.eq_ignore_ascii_case("v1"));
    let path = parts.join("/");
    url.set_path(&path);
    url
}

impl Setting for BaseUrl {
    const EXPECTED: &'static str = "the URL of a provider, such as https://api.openai.com/v1";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn why(text: &str) -> Option<String> {
        Self::parse(text).err()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_certainly_wrong_is_refused_with_what_is_right() {
        for (text, right) in [
            ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/chat/completions/", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/Chat/Completions", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/completions", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/responses", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/models", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/models//", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/audio/speech", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com//v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/v1/chat/completions", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1 /", "https://api.openai.com/v1"),
            ("\"https://api.openai.com/v1\"", "https://api.openai.com/v1"),
            ("https://x.openai.azure.com/openai/v1/?api-version=preview", "https://x.openai.azure.com/openai/v1"),
            ("https://api.openai.com/v1#x", "https://api.openai.com/v1"),
            ("http://127.0.0.1:11434/chat/completions", "http://127.0.0.1:11434"),
            ("api.openai.com/v1", "https://api.openai.com/v1"),
            ("localhost:11434/v1/", "http://localhost:11434/v1"),
            ("127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000/v1"),
        ] {
            let fault = BaseUrl::parse(text).expect_err(text);
            assert!(fault.ends_with(&format!("; it should be {right}")), "{text}: {fault}");
            assert!(BaseUrl::parse(right).is_ok(), "{right}");
        }
        for text in ["", "x", "no url", "ftp://example.com/v1", "https://", "file:///v1", "https://a b/v1"] {
            assert_eq!(BaseUrl::parse(text), Err("must be a URL such as https://api.openai.com/v1".into()), "{text}");
        }
        for text in ["https://me:secret@example.com/v1", "me:secret@example.com/v1"] {
            assert!(!BaseUrl::parse(text).expect_err(text).contains("secret"), "{text}");
        }
    }

    #[test]
    fn addresses_of_providers_are_taken_as_they_are() {
        for (text, shown) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("  https://api.openai.com/v1/\n", "https://api.openai.com/v1"),
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
            (
                "https://generativelanguage.googleapis.com/v1beta/openai/",
                "https://generativelanguage.googleapis.com/v1beta/openai",
            ),
            ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
            ("https://open.bigmodel.cn/api/paas/v4", "https://open.bigmodel.cn/api/paas/v4"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
            ("https://x.example/v1/models/v1", "https://x.example/v1/models/v1"),
        ] {
            let read = BaseUrl::parse(text).expect(text);
            assert_eq!((read.to_string().as_str(), read.doubt()), (shown, None), "{text}");
        }
    }

    #[test]
    fn a_version_that_is_missing_is_doubtful() {
        for (text, shown) in [
            ("https://api.perplexity.ai", "https://api.perplexity.ai"),
            ("https://api.openai.com/", "https://api.openai.com"),
            ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
            ("https://models.github.ai/inference", "https://models.github.ai/inference"),
            ("https://a.example/vendor", "https://a.example/vendor"),
        ] {
            let read = BaseUrl::parse(text).expect(text);
            assert_eq!(read.to_string(), shown);
            assert!(read.doubt().is_some_and(|doubt| doubt.contains(&format!("is it {shown}/v1?"))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,60}") {
            if let Ok(read) = BaseUrl::parse(&text) {
                prop_assert_eq!(BaseUrl::parse(&read.to_string()), Ok(read));
            }
        }

        #[test]
        fn what_should_be_is_right(path in "(/(v1|v4|openai|chat|completions|models| |audio|speech)?){0,6}/?") {
            let text = format!("https://a.example{path}");
            if let Err(fault) = BaseUrl::parse(&text) {
                let (_, right) = fault.rsplit_once("it should be ").expect("what is right");
                prop_assert!(BaseUrl::parse(right).is_ok(), "{} of {}", right, text);
            }
        }
    }
}
