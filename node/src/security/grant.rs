//! What each token allows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_host::disk;
use seawall_proto::database_name::DatabaseName;

use super::action::Action;
use super::pattern::Pattern;
use super::token::{Token, TokenHash};

/// The largest file with a token in it, in bytes.
const MAX_TOKEN_FILE: usize = 1 << 10;

/// By what a node knows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIs {
    /// By its hash.
    Hash(TokenHash),
    /// By itself, in a file.
    File(PathBuf),
}

/// A token as `node.yml` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// Its name, for people.
    pub name: String,
    /// By what it is known.
    pub token: TokenIs,
    /// The databases it is for.
    pub databases: Vec<Pattern>,
    /// What it allows with them.
    pub actions: BTreeSet<Action>,
}

/// What one token allows.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token's name.
    pub name: String,
    hash: TokenHash,
    databases: Vec<Pattern>,
    actions: BTreeSet<Action>,
}

impl Grant {
    /// Whether it allows `action` at all.
    pub fn allows(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// Whether it is for `database`.
    pub fn is_for(&self, database: &DatabaseName) -> bool {
        self.databases.iter().any(|pattern| pattern.matches(database))
    }

    /// What it allows, in words.
    pub fn actions(&self) -> String {
        self.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Why a token cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its file.
    #[error("{0}")]
    File(String),
    /// What stands in the file.
    #[error("{}: {cause}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Two have one token.
    #[error("tokens: `{0}` and `{1}` are the same token: make one for each")]
    Same(String, String),
}

/// The token in a file; white space around it does not count.
///
/// # Errors
/// [`TokenError`].
pub async fn read_token(file: &Path) -> Result<Token, TokenError> {
    let bytes = disk::read_file(file, MAX_TOKEN_FILE).await.map_err(|error| TokenError::File(error.to_string()))?;
    let invalid = |cause: String| TokenError::Invalid { file: file.to_owned(), cause };
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is not UTF-8 text".to_owned()))?;
    text.trim().parse().map_err(|error: super::token::InvalidToken| invalid(error.to_string()))
}

/// Every token of a cluster, and what it allows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<Arc<Grant>>);

impl Grants {
    /// Reads what `tokens` names.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn read(tokens: &[TokenConfig]) -> Result<Self, TokenError> {
        let mut grants: Vec<Arc<Grant>> = Vec::new();
        for config in tokens {
            let hash = match &config.token {
                TokenIs::Hash(hash) => *hash,
                TokenIs::File(file) => read_token(file).await?.hash(),
            };
            if let Some(other) = grants.iter().find(|other| other.hash == hash) {
                return Err(TokenError::Same(other.name.clone(), config.name.clone()));
            }
            grants.push(Arc::new(Grant {
                name: config.name.clone(),
                hash,
                databases: config.databases.clone(),
                actions: config.actions.clone(),
            }));
        }
        Ok(Self(grants))
    }

    /// What the token with this hash allows. Takes the same time whichever it is.
    pub fn find(&self, hash: &TokenHash) -> Option<Arc<Grant>> {
        let mut found = None;
        for grant in &self.0 {
            if grant.hash == *hash {
                found = Some(Arc::clone(grant));
            }
        }
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
