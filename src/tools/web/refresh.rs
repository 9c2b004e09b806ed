//! Pages that lead elsewhere after a moment: `<meta http-equiv="refresh">` and
//! the header of the same name.

use url::Url;

/// Seconds after which a page is still one that only leads elsewhere. With a
/// longer time it is there to be read.
const LONGEST: u64 = 10;

/// Where a page leads, if it does so soon and to another page of the web.
pub(super) fn target(content: &str, base: &Url, page: &Url) -> Option<Url> {
    let (seconds, address) = read(content)?;
    let mut next = base.join(address?).ok()?;
    next.set_fragment(None);
    let mut same = page.clone();
    same.set_fragment(None);
    (seconds <= LONGEST && matches!(next.scheme(), "http" | "https") && next != same).then_some(next)
}

/// Whether it is a refresh at all: of several the first that is one counts.
pub(super) fn is_valid(content: &str) -> bool {
    read(content).is_some()
}

/// The seconds and the address, by the algorithm of HTML's "shared declarative
/// refresh steps".
fn read(content: &str) -> Option<(u64, Option<&str>)> {
    let is_space = |c: char| c.is_ascii_whitespace();
    let text = content.trim_start_matches(is_space);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let seconds = match &text[..digits] {
        "" if text.starts_with('.') => 0,
        "" => return None,
        // A number that is too large is a long time.
        number => number.parse().unwrap_or(u64::MAX),
    };
    let rest = text[digits..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if rest.is_empty() {
        return Some((seconds, None));
    }
    if !rest.starts_with(|c: char| is_space(c) || matches!(c, ';' | ',')) {
        return None;
    }
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start_matches(is_space);
    Some((seconds, (!rest.is_empty()).then(|| address(rest))))
}

/// What follows `url=`, with or without quotes.
fn address(text: &str) -> &str {
    let named = text.get(..3).filter(|name| name.eq_ignore_ascii_case("url")).and_then(|_| {
        let rest = text[3..].trim_start_matches(|c: char| c.is_ascii_whitespace());
        Some(rest.strip_prefix('=')?.trim_start_matches(|c: char| c.is_ascii_whitespace()))
    });
    let text = named.unwrap_or(text);
    match text.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(&text[..1]).next().unwrap_or(quoted),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leads(content: &str) -> Option<String> {
        let page = Url::parse("http://a.test/dir/page?x").expect("a URL");
        target(content, &page, &page).map(String::from)
    }

    #[test]
    fn every_way_in_which_pages_write_it() {
        for content in [
            "0; url=/next",
            "0;URL='/next'",
            "0; url=\"/next\" and more",
            " 5 , url = /next",
            "0 url=/next",
            "0;/next",
            "1.5; url=/next",
            ".5;url=/next",
            "0; url=http://a.test/next#part",
        ] {
            assert_eq!(leads(content).as_deref(), Some("http://a.test/next"), "{content}");
        }
        assert_eq!(leads("0; url=next").as_deref(), Some("http://a.test/dir/next"));
    }

    #[test]
    fn what_stays_on_its_page() {
        for content in [
            "",
            "x; url=/next",
            "0x; url=/next",
            "-1; url=/next",
            "5",
            "0;",
            "0; url=/dir/page?x",
            "0; url=#part",
            "11; url=/next",
            "99999999999999999999; url=/next",
            "0; url=javascript:alert(1)",
            "0; url=data:text/html,x",
            "0; url=ftp://a.test/",
        ] {
            assert_eq!(leads(content), None, "{content}");
        }
        assert!(is_valid("5") && !is_valid("x"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(content in "(?s)[ ;,0-9.urlURL='\"/é]{0,20}|.{0,20}") {
            let _ = leads(&content);
        }
    }
}
