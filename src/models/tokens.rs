//! How many tokens a text has: exactly where the model's vocabulary is known,
//! else a bound that is never too low.

/// The vocabulary that a model reads and writes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// `o200k_base`: gpt-4o and later models of its maker.
    O200k,
    /// `cl100k_base`: gpt-4, gpt-3.5 and the embeddings of their time.
    Cl100k,
    /// Not known. A text counts as many tokens as it has bytes, because
    /// vocabularies of byte pairs, and those with a token for each byte, never
    /// make more.
    Unknown,
}

/// Models by the beginning of their names, the longer ones first.
const MODELS: &[(&str, Vocabulary)] = &[
    ("chatgpt-4o", Vocabulary::O200k),
    ("codex-mini", Vocabulary::O200k),
    ("gpt-3.5-", Vocabulary::Cl100k),
    ("gpt-35-", Vocabulary::Cl100k),
    ("gpt-4.1", Vocabulary::O200k),
    ("gpt-4.5", Vocabulary::O200k),
    ("gpt-4o", Vocabulary::O200k),
    ("gpt-4-", Vocabulary::Cl100k),
    ("gpt-5-", Vocabulary::O200k),
    ("gpt-5.1", Vocabulary::O200k),
    ("gpt-5.2", Vocabulary::O200k),
    ("gpt-oss", Vocabulary::O200k),
    ("o1", Vocabulary::O200k),
    ("o3", Vocabulary::O200k),
    ("o4-mini", Vocabulary::O200k),
    ("text-embedding-3-", Vocabulary::Cl100k),
    ("text-embedding-ada-002", Vocabulary::Cl100k),
];

impl Vocabulary {
    /// The vocabulary of a model, by its provider's name for it.
    #[must_use]
    pub fn of_model(name: &str) -> Self {
        let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
        match name {
            "gpt-4" => Self::Cl100k,
            "gpt-5" => Self::O200k,
            _ => MODELS.iter().find(|(begins, _)| name.starts_with(begins)).map_or(Self::Unknown, |(_, it)| *it),
        }
    }

    /// Whether it counts exactly.
    #[must_use]
    pub fn is_known(self) -> bool {
        self != Self::Unknown
    }

    /// Tokens of a text: exact, or its bytes. Takes time in proportion to the
    /// text, whatever is in it; the first call of a vocabulary loads it.
    #[must_use]
    pub fn count(self, text: &str) -> u64 {
        let count = match self {
            _ if text.is_empty() => 0,
            Self::O200k => bpe_openai::o200k_base().count(text),
            Self::Cl100k => bpe_openai::cl100k_base().count(text),
            Self::Unknown => text.len(),
        };
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_have_the_tokens_that_their_maker_counts() {
        // By tiktoken.
        for (text, cl100k, o200k) in [
            ("", 0, 0),
            ("hello world", 2, 2),
            ("tiktoken is great!", 6, 6),
            ("antidisestablishmentarianism", 6, 6),
            ("2 + 2 = 4", 7, 7),
            ("お誕生日おめでとう", 9, 8),
        ] {
            assert_eq!((Vocabulary::Cl100k.count(text), Vocabulary::O200k.count(text)), (cl100k, o200k), "{text}");
        }
        assert_eq!(Vocabulary::Unknown.count("お誕生日"), 12);
    }

    #[test]
    fn models_are_known_by_their_names() {
        for (name, vocabulary) in [
            ("gpt-4o-mini-2024-07-18", Vocabulary::O200k),
            ("gpt-4", Vocabulary::Cl100k),
            ("gpt-4-turbo", Vocabulary::Cl100k),
            ("gpt-4.1-nano", Vocabulary::O200k),
            ("gpt-5-mini", Vocabulary::O200k),
            ("openai/gpt-oss-120b", Vocabulary::O200k),
            ("text-embedding-3-small", Vocabulary::Cl100k),
            ("gpt-5.5", Vocabulary::Unknown),
            ("claude-sonnet-4-5", Vocabulary::Unknown),
            ("", Vocabulary::Unknown),
        ] {
            assert_eq!(Vocabulary::of_model(name), vocabulary, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_bytes(text in any::<String>(), other in "\\PC*") {
            for text in [&text, &other] {
                let bytes = Vocabulary::Unknown.count(text);
                prop_assert!(Vocabulary::O200k.count(text) <= bytes);
                prop_assert!(Vocabulary::Cl100k.count(text) <= bytes);
            }
        }
    }

    /// Prints what the decision on counting tokens shows.
    #[test]
    #[ignore = "measures; run it alone"]
    fn how_long_counting_takes() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("a status");
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
            line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
        };
        for (name, vocabulary) in [("o200k", Vocabulary::O200k), ("cl100k", Vocabulary::Cl100k)] {
            let (before, start) = (resident(), std::time::Instant::now());
            let _ = vocabulary.count("a");
            println!("{name}: loaded in {:?}, {} KiB more", start.elapsed(), resident().saturating_sub(before));
            let prose = "The quick brown fox jumps over the lazy dog, and 42 others follow. ";
            for size in [1 << 10, 100 << 10, 1 << 20] {
                let texts = [
                    ("prose", prose.repeat(size / prose.len() + 1)),
                    ("spaces", " ".repeat(size)),
                    ("letters", "a".repeat(size)),
                    ("upper", "A".repeat(size)),
                    ("signs", "=".repeat(size)),
                    ("breaks", " \n".repeat(size / 2)),
                    ("Chinese", "中文字".repeat(size / 9)),
                    ("digits", "1234567890".repeat(size / 10)),
                ];
                for (what, text) in texts {
                    let start = std::time::Instant::now();
                    let tokens = vocabulary.count(&text[..text.floor_char_boundary(size)]);
                    println!("{name} {what} {size} bytes: {tokens} tokens in {:?}", start.elapsed());
                }
            }
        }
        println!("{} KiB resident at the end", resident());
    }
}
