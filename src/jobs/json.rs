//! JSON on one line: streams send an event's data as one line, and what is kept
//! needs no white space.

use std::sync::Arc;

use serde::de::IgnoredAny;

/// JSON on one line, as streams need it.
///
/// # Errors
/// When it is no JSON.
pub fn one_line(json: &str) -> Result<Arc<str>, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json)?;
    Ok(compact(json))
}

/// Takes the white space between the tokens of valid JSON away.
pub(super) fn compact(json: &str) -> Arc<str> {
    if !json.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return json.into();
    }
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        let keep = in_string || !character.is_ascii_whitespace();
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        keep
    };
    json.chars().filter(keep).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn white_space_goes_between_tokens_only() {
        assert_eq!(&*compact("{ \"a b\\\" c\" : [1,\n2 ] }"), "{\"a b\\\" c\":[1,2]}");
        assert!(one_line("{").is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn one_line_means_the_same(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            let line = one_line(&pretty).expect("valid");
            prop_assert!(!line.contains('\n'));
            let read: serde_json::Value = serde_json::from_str(&line).expect("valid");
            prop_assert_eq!(read, value);
        }
    }
}
