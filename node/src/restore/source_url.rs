//! The SOURCE of a restore, as it is written on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use seawall_host::net::Address;
use seawall_proto::database_name::DatabaseName;

/// Where a database is to be restored from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceUrl {
    /// `seawall://HOST:PORT,HOST:PORT/DATABASE`.
    Cluster {
        /// Nodes, any of which will do.
        nodes: Vec<Address>,
        /// The database.
        database: DatabaseName,
    },
    /// `<url of a destination>/DATABASE`. A database whose name has parts is the last part below a deeper root.
    Destination {
        /// The URL without the last part.
        root: String,
        /// The last part.
        database: DatabaseName,
    },
}

/// A text that names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write seawall://HOST:PORT,…/DATABASE or a destination's URL with the database behind it, \
     such as file:///backups/app or s3://bucket/prefix/app"
)]
pub struct InvalidSource(String);

impl FromStr for SourceUrl {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(InvalidSource(format!("`{text}` is not a URL")));
        };
        let invalid = |error: &dyn std::fmt::Display| InvalidSource(error.to_string());
        if scheme == "seawall" {
            let Some((nodes, database)) = rest.split_once('/') else {
                return Err(InvalidSource(format!("`{text}` names no database")));
            };
            let nodes: Result<Vec<Address>, _> = nodes.split(',').map(str::parse).collect();
            let nodes = nodes.map_err(|error| invalid(&error))?;
            let database = database.trim_end_matches('/').parse().map_err(|error| invalid(&error))?;
            return Ok(Self::Cluster { nodes, database });
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) if scheme != "file" => (rest, format!("?{query}")),
            _ => (rest, String::new()),
        };
        let path = rest.trim_end_matches('/');
        let (root, database) = match scheme {
            "file" => {
                // Relative to the working directory; the components drop `.` and doubled slashes.
                let path = std::path::absolute(path).map_err(|error| invalid(&error))?;
                let path: PathBuf = path.components().collect();
                let path = path.to_str().ok_or_else(|| InvalidSource("the path is not UTF-8".to_owned()))?;
                let (root, database) = path.rsplit_once('/').unwrap_or_default();
                (if root.is_empty() { "/".to_owned() } else { root.to_owned() }, database.to_owned())
            }
            _ => match path.rsplit_once('/') {
                Some((root, database)) => (root.to_owned(), database.to_owned()),
                None => return Err(InvalidSource(format!("`{text}` names no database"))),
            },
        };
        let database = database.parse().map_err(|error| invalid(&error))?;
        Ok(Self::Destination { root: format!("{scheme}://{root}{query}"), database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_clusters_and_destinations() {
        let cluster = "seawall://a:1,[::1]:2/tenants/acme".parse::<SourceUrl>().unwrap();
        let nodes = vec!["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
        assert_eq!(cluster, SourceUrl::Cluster { nodes, database: "tenants/acme".parse().unwrap() });
        for (text, expected) in [
            ("file:///backups/app", "file:///backups"),
            ("file:///backups/./x//app/", "file:///backups/x"),
            ("file:///app", "file:///"),
            ("s3://bucket/app", "s3://bucket"),
            ("s3://bucket/a/b/app/", "s3://bucket/a/b"),
            ("s3://bucket/a/app?endpoint=http://x/y", "s3://bucket/a?endpoint=http://x/y"),
        ] {
            let expected = SourceUrl::Destination { root: expected.to_owned(), database: "app".parse().unwrap() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let here = std::path::absolute("backups").unwrap();
        let expected = format!("file://{}", here.display());
        let found = "file://backups/app".parse::<SourceUrl>().unwrap();
        assert_eq!(found, SourceUrl::Destination { root: expected, database: "app".parse().unwrap() });
    }

    #[test]
    fn refuses_the_rest_with_an_example() {
        for text in ["", "app", "/backups/app", "seawall://a:1", "seawall://a/app", "seawall://a:1/", "s3://bucket"] {
            let error = text.parse::<SourceUrl>().unwrap_err();
            assert!(error.to_string().contains("file:///backups/app"), "{text}: {error}");
        }
        assert!("s3://bucket/@1".parse::<SourceUrl>().is_err());
    }
}
