//! What an Azure Blob destination needs to know.

use std::path::PathBuf;
use std::time::Duration;

use object_store::azure::{AzureAccessKey, split_sas};
use url::Url;

use super::super::config::shown;
use super::super::options::prefix;
use super::super::{DestinationOptions, InvalidDestination, Secret};

/// What may be said of this kind of destination.
const KEYS: &[&str] = &["endpoint", "account-key", "sas-token", "connection-string", "ca-file", "timeout"];

/// How to prove to the store who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureCredentials {
    /// By a key of the storage account, base64.
    Key(Secret),
    /// By a shared access signature.
    Sas(Secret),
    /// As a service principal, by a secret.
    ServicePrincipal {
        /// The tenant it belongs to.
        tenant: String,
        /// Its id.
        client: String,
        /// Its secret.
        secret: Secret,
    },
    /// As a service principal, by a token that the machine keeps in a file (workload identity).
    FederatedToken {
        /// The tenant it belongs to.
        tenant: String,
        /// Its id.
        client: String,
        /// The file.
        file: String,
    },
    /// As the machine itself (managed identity); the id tells which, if it has several.
    Machine(Option<String>),
}

/// Where the objects are and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureOptions {
    /// The destination's URL, for people.
    pub url: String,
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// Stands before every name; empty, or ends in `/`.
    pub prefix: String,
    /// The account's blob service.
    pub endpoint: String,
    /// Who is asking.
    pub credentials: AzureCredentials,
    /// Certificates to trust beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// How long a request may stand still.
    pub patience: Duration,
}

impl AzureOptions {
    /// From a URL `abs://[ACCOUNT@]CONTAINER[/PREFIX][?endpoint=…]` and what else is configured.
    ///
    /// # Errors
    /// [`InvalidDestination::Value`] says what does not fit.
    pub fn from_values(
        url: &str,
        options: &DestinationOptions,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidDestination> {
        let refuse = |cause: String| InvalidDestination::Value { url: shown(url), cause };
        let parsed = Url::parse(url).map_err(|error| refuse(error.to_string()))?;
        if parsed.password().is_some() {
            return Err(refuse("keys do not belong into a URL: use account-key or sas-token".to_owned()));
        }
        let container = parsed.host_str().filter(|host| !host.is_empty() && parsed.port().is_none());
        let container = container.ok_or_else(|| refuse("write abs://ACCOUNT@CONTAINER/PREFIX".to_owned()))?.to_owned();
        let options = options.complete(&parsed, "abs", KEYS).map_err(refuse)?;
        let patience = options.patience().map_err(refuse)?;
        let configured = [&options.account_key, &options.sas_token, &options.connection_string];
        if configured.into_iter().flatten().count() > 1 {
            return Err(refuse("account-key, sas-token and connection-string exclude each other".to_owned()));
        }
        let connection = match &options.connection_string {
            Some(string) => Some(string.reveal().to_owned()),
            None if options.account_key.is_none() && options.sas_token.is_none() => {
                environment("AZURE_STORAGE_CONNECTION_STRING")
            }
            None => None,
        };
        let connection = connection.map(|string| ConnectionString::parse(&string)).transpose().map_err(refuse)?;
        let connection = connection.unwrap_or_default();
        let account = match parsed.username() {
            "" => connection
                .account
                .clone()
                .or_else(|| ["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"].into_iter().find_map(environment)),
            account => Some(account.to_owned()),
        };
        let account = account.ok_or_else(|| {
            refuse(
                "the storage account is missing: write abs://ACCOUNT@CONTAINER, or set AZURE_STORAGE_ACCOUNT"
                    .to_owned(),
            )
        })?;
        let credentials = credentials(&options, &connection, environment).map_err(refuse)?;
        let endpoint = options.http_endpoint(environment, &["AZURE_STORAGE_ENDPOINT"]).map_err(refuse)?;
        let endpoint = endpoint.or_else(|| connection.endpoint(&account));
        Ok(Self {
            url: shown(url),
            endpoint: endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net")),
            account,
            container,
            prefix: prefix(&parsed),
            credentials,
            ca_file: options.ca_file,
            patience,
        })
    }
}

/// What is configured, or what the environment has under the vendor's names, or the machine itself.
fn credentials(
    options: &DestinationOptions,
    connection: &ConnectionString,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<AzureCredentials, String> {
    let first = |names: &[&str]| names.iter().find_map(|name| environment(name)).map(Secret::new);
    let given = options.account_key.is_some() || options.sas_token.is_some();
    let (mut key, mut sas) = (options.account_key.clone(), options.sas_token.clone());
    if !given {
        (key, sas) = (connection.key.clone(), connection.sas.clone());
    }
    if key.is_none() && sas.is_none() {
        key = first(&["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"]);
        key = key.or_else(|| first(&["LITESTREAM_AZURE_ACCOUNT_KEY"]));
        sas = first(&["AZURE_STORAGE_SAS_TOKEN"]).filter(|_| key.is_none());
    }
    if let Some(key) = key {
        if AzureAccessKey::try_new(key.reveal()).is_err() {
            return Err("account-key: base64 is needed, as the portal shows it under Access keys".to_owned());
        }
        return Ok(AzureCredentials::Key(key));
    }
    if let Some(sas) = sas {
        let signed = split_sas(sas.reveal()).is_ok_and(|pairs| pairs.iter().any(|(name, _)| name == "sig"));
        if !signed {
            return Err("sas-token: there is no signature in it: write `sv=…&sig=…` as the portal shows it".to_owned());
        }
        return Ok(AzureCredentials::Sas(sas));
    }
    let (tenant, client) = (environment("AZURE_TENANT_ID"), environment("AZURE_CLIENT_ID"));
    let (secret, file) = (first(&["AZURE_CLIENT_SECRET"]), environment("AZURE_FEDERATED_TOKEN_FILE"));
    Ok(match (tenant, client, secret, file) {
        (Some(tenant), Some(client), Some(secret), _) => AzureCredentials::ServicePrincipal { tenant, client, secret },
        (Some(tenant), Some(client), None, Some(file)) => AzureCredentials::FederatedToken { tenant, client, file },
        (_, client, _, _) => AzureCredentials::Machine(client),
    })
}

/// Account, key and endpoint in one text, as the portal shows it.
#[derive(Default)]
struct ConnectionString {
    account: Option<String>,
    key: Option<Secret>,
    sas: Option<Secret>,
    blob_endpoint: Option<String>,
    protocol: Option<String>,
    suffix: Option<String>,
}

impl ConnectionString {
    fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            // Neither half may be shown: what is no connection string may be a key.
            let (name, value) = part.split_once('=').ok_or_else(|| {
                "connection-string: write `AccountName=…;AccountKey=…` as the portal shows it".to_owned()
            })?;
            let value = value.to_owned();
            match name.to_ascii_lowercase().as_str() {
                "accountname" => found.account = Some(value),
                "accountkey" => found.key = Some(Secret::new(value)),
                "sharedaccesssignature" => found.sas = Some(Secret::new(value)),
                "blobendpoint" => found.blob_endpoint = Some(value.trim_end_matches('/').to_owned()),
                "defaultendpointsprotocol" => found.protocol = Some(value),
                "endpointsuffix" => found.suffix = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    fn endpoint(&self, account: &str) -> Option<String> {
        let by_suffix = || {
            let suffix = self.suffix.as_ref()?;
            Some(format!("{}://{account}.blob.{suffix}", self.protocol.as_deref().unwrap_or("https")))
        };
        self.blob_endpoint.clone().or_else(by_suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "aHVudGVyMg==";

    fn parse(
        url: &str,
        options: &DestinationOptions,
        variables: &[(&str, &str)],
    ) -> Result<AzureOptions, InvalidDestination> {
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        AzureOptions::from_values(url, options, &environment)
    }

    #[test]
    fn takes_account_container_and_prefix_apart() {
        let options = parse("abs://acc@box/a/b/", &DestinationOptions::default(), &[]).unwrap();
        assert_eq!((&*options.account, &*options.container, &*options.prefix), ("acc", "box", "a/b/"));
        assert_eq!(options.endpoint, "https://acc.blob.core.windows.net");
        assert_eq!((&*options.url, options.credentials), ("abs://acc@box/a/b/", AzureCredentials::Machine(None)));
        let options = parse("abs://box", &DestinationOptions::default(), &[("AZURE_STORAGE_ACCOUNT", "env")]).unwrap();
        assert_eq!((&*options.account, &*options.prefix), ("env", ""));
    }

    #[test]
    fn the_vendors_variables_stand_in_for_what_is_not_configured() {
        let none = DestinationOptions::default();
        let found = |variables: &[(&str, &str)]| parse("abs://acc@box", &none, variables).unwrap().credentials;
        assert_eq!(found(&[("AZURE_STORAGE_KEY", KEY)]), AzureCredentials::Key(Secret::new(KEY)));
        let sas = "?sv=1&sig=x";
        assert_eq!(found(&[("AZURE_STORAGE_SAS_TOKEN", sas)]), AzureCredentials::Sas(Secret::new(sas)));
        let principal = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
        assert!(matches!(found(&principal), AzureCredentials::ServicePrincipal { .. }));
        let workload = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", "/f")];
        assert!(matches!(found(&workload), AzureCredentials::FederatedToken { .. }));
        let string = format!("DefaultEndpointsProtocol=http;AccountName=two;AccountKey={KEY};EndpointSuffix=local");
        let variables = [("AZURE_STORAGE_CONNECTION_STRING", &*string)];
        let options = parse("abs://box", &none, &variables).unwrap();
        assert_eq!((&*options.account, &*options.endpoint), ("two", "http://two.blob.local"));
        assert_eq!(options.credentials, AzureCredentials::Key(Secret::new(KEY)));
        let configured = DestinationOptions { sas_token: Some(Secret::new(sas)), ..none.clone() };
        let options = parse("abs://acc@box", &configured, &variables).unwrap();
        assert_eq!(options.credentials, AzureCredentials::Sas(Secret::new(sas)));
    }

    #[test]
    fn refuses_what_does_not_fit_and_shows_no_key() {
        let none = DestinationOptions::default;
        let secret = || Some(Secret::new("hunter2"));
        for (url, options, says) in [
            ("abs://box", none(), "AZURE_STORAGE_ACCOUNT"),
            ("abs://", none(), "abs://ACCOUNT@CONTAINER"),
            ("abs://acc:hunter2@box", none(), "do not belong into a URL"),
            ("abs://acc@box?sas-token=hunter2", none(), "does not belong into a URL"),
            ("abs://acc@box?region=eu", none(), "`region` means nothing to abs://"),
            ("abs://acc@box", DestinationOptions { account_key: secret(), ..none() }, "base64"),
            ("abs://acc@box", DestinationOptions { sas_token: secret(), ..none() }, "no signature"),
            ("abs://acc@box", DestinationOptions { connection_string: secret(), ..none() }, "AccountName="),
            (
                "abs://acc@box",
                DestinationOptions { connection_string: secret(), sas_token: secret(), ..none() },
                "exclude each other",
            ),
        ] {
            let error = parse(url, &options, &[]).unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
