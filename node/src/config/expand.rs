//! `${VAR}` in values.

/// Why a value could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set; set it, or write $${{{0}}} for the text itself")]
    Unset(String),
    /// `${` without `}`, or with no name in between.
    #[error("`${{` needs a variable's name and a closing `}}`; write `$$` for a dollar sign")]
    Malformed,
}

/// Replaces each `${VAR}` in `text` by what `lookup` gives, and `$$` by `$`; any other `$` stands for itself.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or(ExpandError::Malformed)?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(ExpandError::Malformed);
            }
            expanded.push_str(&lookup(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
            rest = after;
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("k${ey}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn expands_names_and_keeps_other_dollars() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("a${KEY}b", "ak${ey}b"),
            ("${EMPTY}", ""),
            ("$${KEY}", "${KEY}"),
            ("$$$$", "$$"),
            ("5$ $x", "5$ $x"),
            ("ä${KEY}ö$", "äk${ey}ö$"),
        ] {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn names_the_variable_that_is_not_set() {
        assert_eq!(expand("${NOPE}", &environment), Err(ExpandError::Unset("NOPE".to_owned())));
        assert!(ExpandError::Unset("NOPE".to_owned()).to_string().contains("$${NOPE}"));
        for text in ["${", "${}", "${KEY", "${K EY}"] {
            assert_eq!(expand(text, &environment), Err(ExpandError::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubled_dollars_give_the_text_back(text in ".{0,40}") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), &environment), Ok(text));
        }
    }
}
