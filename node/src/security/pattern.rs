//! Patterns of database names.

use std::fmt;
use std::str::FromStr;

use seawall_proto::database_name::DatabaseName;

/// The longest pattern, in bytes.
const MAX_LEN: usize = 255;

/// A pattern that names of databases match or do not: `*` stands for anything within a part of a name, `**` for anything
/// at all, `?` for one character other than `/`; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    One(char),
    AnyOne,
    Within,
    All,
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is empty, or too long.
    #[error("a pattern of database names has 1 to {MAX_LEN} bytes")]
    Length,
    /// It has characters that no name has.
    #[error(
        "`{0}` is no pattern of database names: write a name, with `*` for anything within a part of it, `**` for \
         anything at all, `?` for one character"
    )]
    Character(String),
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(InvalidPattern::Length);
        }
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            let part = match character {
                '?' => Part::AnyOne,
                '*' => {
                    let mut stars = 1;
                    while rest.next_if_eq(&'*').is_some() {
                        stars += 1;
                    }
                    match stars {
                        1 => Part::Within,
                        2 => Part::All,
                        _ => return Err(InvalidPattern::Character(text.to_owned())),
                    }
                }
                _ if character.is_ascii_alphanumeric() || "-_./".contains(character) => Part::One(character),
                _ => return Err(InvalidPattern::Character(text.to_owned())),
            };
            parts.push(part);
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether `name` matches.
    pub fn matches(&self, name: &DatabaseName) -> bool {
        self.matches_text(name.as_str())
    }

    /// Takes time in proportion to both lengths, whatever they say.
    fn matches_text(&self, name: &str) -> bool {
        // Which beginnings of the pattern match what was read of the name.
        let mut reached = vec![false; self.parts.len() + 1];
        reached[0] = true;
        self.skip_empty(&mut reached);
        for character in name.chars() {
            let mut next = vec![false; self.parts.len() + 1];
            for (index, part) in self.parts.iter().enumerate() {
                let (after, stays) = match part {
                    Part::One(wanted) => (*wanted == character, false),
                    Part::AnyOne => (character != '/', false),
                    Part::Within => (false, character != '/'),
                    Part::All => (false, true),
                };
                if reached[index] {
                    next[index + 1] |= after;
                    next[index] |= stays;
                }
            }
            self.skip_empty(&mut next);
            reached = next;
        }
        reached[self.parts.len()]
    }

    /// What stands for anything stands for nothing, too.
    fn skip_empty(&self, reached: &mut [bool]) {
        for (index, part) in self.parts.iter().enumerate() {
            if reached[index] && matches!(part, Part::Within | Part::All) {
                reached[index + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_stand_for_anything_and_single_ones_stay_within_a_part() {
        for (text, name, expected) in [
            ("app", "app", true),
            ("app", "app2", false),
            ("app", "ap", false),
            ("app*", "app", true),
            ("app*", "app-2", true),
            ("app*", "app/x", false),
            ("app*", "my-app", false),
            ("*", "app", true),
            ("*", "tenants/acme", false),
            ("**", "tenants/acme", true),
            ("tenants/*", "tenants/acme", true),
            ("tenants/*", "tenants/acme/x", false),
            ("tenants/**", "tenants/acme/x", true),
            ("tenants/**", "tenants", false),
            ("*/acme", "tenants/acme", true),
            ("**/acme", "a/b/acme", true),
            ("**/acme", "acme", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(pattern(text).matches_text(name), expected, "{text} {name}");
        }
    }

    #[test]
    fn what_no_name_can_match_is_refused() {
        for text in ["", "a b", "a***", "[a]", "a\\b", "ä", "{a,b}", "a\0"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        assert!("a".repeat(256).parse::<Pattern>().is_err());
        assert!("*?".repeat(100).parse::<Pattern>().is_ok());
    }

    /// The obvious matcher, which takes for ever on bad patterns.
    fn reference(parts: &[Part], name: &[char]) -> bool {
        let Some((part, rest)) = parts.split_first() else { return name.is_empty() };
        let stays = |character: &char| matches!(part, Part::All) || *character != '/';
        match part {
            Part::One(wanted) => name.first() == Some(wanted) && reference(rest, &name[1..]),
            Part::AnyOne => name.first().is_some_and(|it| *it != '/') && reference(rest, &name[1..]),
            Part::Within | Part::All => {
                reference(rest, name) || (name.first().is_some_and(stays) && reference(parts, &name[1..]))
            }
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_reference_does(text in "[ab/?*]{1,8}", name in "[ab/]{0,8}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let characters: Vec<char> = name.chars().collect();
                prop_assert_eq!(pattern.matches_text(&name), reference(&pattern.parts, &characters));
            }
        }

        #[test]
        fn a_name_matches_itself_and_what_stands_for_anything(name in "[a-z0-9]{1,9}(/[a-z0-9]{1,9}){0,3}") {
            let name: DatabaseName = name.parse().unwrap();
            prop_assert!(pattern(name.as_str()).matches(&name));
            prop_assert!(pattern("**").matches(&name));
            prop_assert_eq!(pattern("*").matches(&name), !name.as_str().contains('/'));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }

    #[test]
    fn a_bad_pattern_takes_no_long_time() {
        let stars = pattern(&"*a".repeat(120));
        assert!(!stars.matches_text(&"a".repeat(119)));
    }
}
