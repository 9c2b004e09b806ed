//! Text in HTML.

use std::fmt;

/// Text that is shown as it is, whatever is in it.
pub(super) struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(place) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..place])?;
            f.write_str(match rest.as_bytes()[place] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[place + 1..];
        }
        f.write_str(rest)
    }
}

/// The Markdown that descriptions are written in: paragraphs, lists with `- `,
/// and code between backticks.
pub(super) fn markdown(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        if paragraph.starts_with("- ") {
            let items = paragraph.trim_start_matches("- ").split("\n- ").map(inline);
            html = format!("{html}<ul><li>{}</ul>", items.collect::<Vec<_>>().join("<li>"));
        } else {
            html = format!("{html}<p>{}</p>", inline(paragraph));
        }
    }
    html
}

fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part =
        |(place, part)| if place % 2 == 1 { format!("<code>{}</code>", Text(part)) } else { Text(part).to_string() };
    parts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(Text("<a b='\"'>&ä").to_string(), "&lt;a b=&#39;&quot;&#39;&gt;&amp;ä");
        assert_eq!(
            markdown("a `<b>`\n\n- x\n- `y`"),
            "<p>a <code>&lt;b&gt;</code></p><ul><li>x<li><code>y</code></ul>"
        );
        assert_eq!(markdown(""), "");
    }
}
