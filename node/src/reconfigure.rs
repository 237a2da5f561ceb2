//! Taking over what changes in the configuration of a running node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{NodeConfig, process_environment};
use crate::security::{Access, FileWatch, Grants, TokenIs};

/// Reads the configuration file of a running node, and the files with tokens that it names, again whenever they change,
/// and lets `access` go by its `tokens`. Everything else in it is taken at the next start. `running` is what the node
/// was started with.
pub async fn keep_tokens(file: PathBuf, mut running: NodeConfig, access: Arc<Access>) {
    let mut told = None;
    loop {
        let watched = token_files(&running);
        // It watches before it reads, so that nothing happens in between.
        let watch = FileWatch::new(watched.iter().chain([&file]));
        while token_files(&running) == watched {
            match read(&file).await {
                Ok((config, grants)) => {
                    told = None;
                    let count = grants.len();
                    if access.replace(grants) {
                        tracing::info!(count, "the tokens were taken anew");
                    }
                    if other_parts(&config) != other_parts(&running) {
                        tracing::warn!(
                            file = %file.display(),
                            "of what changed in the configuration only `tokens` is taken while the node runs; \
                             the rest at the next start"
                        );
                    }
                    running = config;
                }
                Err(error) => {
                    if told.as_ref() != Some(&error) {
                        tracing::error!(error, "the tokens cannot be taken anew; what they allowed, they allow on");
                        told = Some(error);
                    }
                }
            }
            if token_files(&running) == watched {
                watch.changed().await;
            }
        }
    }
}

fn token_files(config: &NodeConfig) -> Vec<PathBuf> {
    let tokens = config.security.tokens.iter();
    let files = tokens.filter_map(|token| match &token.token {
        TokenIs::File(file) => Some(file.clone()),
        TokenIs::Hash(_) => None,
    });
    files.collect()
}

async fn read(file: &Path) -> Result<(NodeConfig, Grants), String> {
    let config = NodeConfig::load(file, &process_environment).await.map_err(|error| error.to_string())?;
    let grants = Grants::read(&config.security.tokens).await.map_err(|error| error.to_string())?;
    Ok((config, grants))
}

fn other_parts(config: &NodeConfig) -> NodeConfig {
    let mut rest = config.clone();
    rest.security.tokens.clear();
    rest
}
