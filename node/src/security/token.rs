//! Tokens: what agents and people show to nodes.

use std::fmt;
use std::str::FromStr;

use seawall_host::random;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every token begins with, so that one is recognised where it should not be.
const PREFIX: &str = "swt_";
/// What every hash begins with.
const HASH_PREFIX: &str = "sha256:";
/// Random bytes of a token.
const BYTES: usize = 32;

/// A token. It is never shown.
#[derive(Clone)]
pub struct Token(String);

/// A text that is no token. It is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no token: those begin with `{PREFIX}` and have 64 hexadecimal digits; `seawall token` makes one")]
pub struct InvalidToken;

impl Token {
    /// A new one that nobody can guess.
    pub fn generate() -> Self {
        let mut bytes = [0; BYTES];
        random::fill(&mut bytes);
        Self(format!("{PREFIX}{}", hex(&bytes)))
    }

    /// The text, for whoever must send or print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What nodes keep of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 2 * BYTES || !digits.bytes().all(is_digit) {
            return Err(InvalidToken);
        }
        Ok(Self(text.to_owned()))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The SHA-256 of a token. Nobody finds the token by it: that has 256 random bits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// A text that is no hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no hash of a token: write `{HASH_PREFIX}` and 64 hexadecimal digits, as `seawall token` prints it")]
pub struct InvalidTokenHash;

impl FromStr for TokenHash {
    type Err = InvalidTokenHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(InvalidTokenHash)?;
        let bytes = unhex(digits).ok_or(InvalidTokenHash)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex(&self.0))
    }
}

impl PartialEq for TokenHash {
    /// In the same time wherever they differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_token_is_one_and_has_a_hash() {
        seawall_host::real::install();
        let token = Token::generate();
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_ne!(token, Token::generate());
        assert_eq!(token.hash().to_string().parse(), Ok(token.hash()));
        assert_ne!(token.hash(), Token::generate().hash());
    }

    #[test]
    fn the_hash_is_that_of_the_text() {
        let token: Token = format!("swt_{}", "0".repeat(64)).parse().unwrap();
        // By `printf 'swt_%064d' 0 | sha256sum`.
        let expected = "sha256:802fb67ee7617e7a5d088e3c89bd3e3c9a95026292816a8eec7ec00860b8a438";
        assert_eq!(token.hash().to_string(), expected);
    }

    #[test]
    fn neither_is_shown() {
        seawall_host::real::install();
        let token = Token::generate();
        assert_eq!(format!("{token:?} {:?}", token.hash()), "… …");
        let wrong = format!("{}0", token.reveal());
        assert!(!wrong.parse::<Token>().unwrap_err().to_string().contains(token.reveal()));
    }

    #[test]
    fn other_texts_are_refused() {
        let zeros = "0".repeat(64);
        for text in ["", "swt_", &zeros, &format!("swt_{}G", "0".repeat(63)), &format!("swt_{}A", "0".repeat(63))] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
        for text in ["", "sha256:", &zeros, &format!("sha256:{zeros}0"), &format!("sha256:{}ä", "0".repeat(62))] {
            assert!(text.parse::<TokenHash>().is_err(), "{text}");
        }
        assert!(format!("sha256:{}", "AB".repeat(32)).parse::<TokenHash>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = text.parse::<Token>();
            let _ = text.parse::<TokenHash>();
        }

        #[test]
        fn hashes_are_equal_where_their_bytes_are(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(TokenHash(a) == TokenHash(b), a == b);
            prop_assert_eq!(TokenHash(a).to_string().parse(), Ok(TokenHash(a)));
        }
    }
}
