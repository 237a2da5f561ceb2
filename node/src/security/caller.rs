//! Who makes a call, for the services that answer it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use seawall_proto::database_name::DatabaseName;
use tonic::{Request, Status};

use super::access::{Access, Identity};
use super::action::{About, Need, Rule};

/// Who makes a call. Every request that is answered has one; clones are of the same call.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Call>);

#[derive(Debug)]
struct Call {
    access: Arc<Access>,
    identity: Identity,
    rule: &'static Rule,
    /// What the service asked about, and was allowed.
    databases: Mutex<BTreeSet<DatabaseName>>,
    has_asked: AtomicBool,
}

impl Caller {
    /// Whoever `identity` is, if a call of this `rule` is allowed at all.
    pub(super) fn admit(access: &Arc<Access>, identity: Identity, rule: &'static Rule) -> Result<Self, Status> {
        let caller = Self(Arc::new(Call {
            access: Arc::clone(access),
            identity,
            rule,
            databases: Mutex::default(),
            has_asked: AtomicBool::new(false),
        }));
        caller.may_call()?;
        Ok(caller)
    }

    /// Who makes this request.
    ///
    /// # Errors
    /// It came by a way on which nobody looked.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Status::internal("nobody looked who calls"))
    }

    /// Whether the caller may do with `database` what the call does. To be asked before anything is said of it.
    ///
    /// # Errors
    /// `PermissionDenied`, in the same words whether or not there is such a database.
    pub fn check(&self, database: &DatabaseName) -> Result<(), Status> {
        self.0.has_asked.store(true, Ordering::Release);
        self.may_use(database)?;
        self.0.databases.lock().unwrap_or_else(PoisonError::into_inner).insert(database.clone());
        Ok(())
    }

    /// The request names no database that there could be, and the answer tells of none.
    pub fn names_none(&self) {
        self.0.has_asked.store(true, Ordering::Release);
    }

    /// Leaves of a list what the caller may see; `name` gives the database's.
    pub fn retain<T>(&self, databases: &mut Vec<T>, name: impl Fn(&T) -> &str) {
        self.0.has_asked.store(true, Ordering::Release);
        databases.retain(|it| name(it).parse().is_ok_and(|name| self.may_use(&name).is_ok()));
    }

    /// Whether the service has asked what it has to.
    pub(super) fn has_asked(&self) -> bool {
        self.0.rule.about == About::Nothing || self.0.has_asked.load(Ordering::Acquire)
    }

    /// Whether this caller's rights can be taken away during the call.
    pub(super) fn is_revocable(&self) -> bool {
        matches!(self.0.identity, Identity::Token(_))
    }

    /// Completes with the reason when the caller may not do any more what it does.
    pub(super) async fn revoked(&self) -> Status {
        loop {
            let generation = self.0.access.generation();
            if let Err(status) = self.may_go_on() {
                return status;
            }
            self.0.access.changed_since(generation).await;
        }
    }

    fn may_go_on(&self) -> Result<(), Status> {
        self.may_call()?;
        let databases = self.0.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.iter().try_for_each(|database| self.may_use(database))
    }

    fn may_call(&self) -> Result<(), Status> {
        let need = self.0.rule.need;
        match (&self.0.identity, need) {
            (_, Need::Elsewhere) => Err(Status::unimplemented("nodes do not answer this")),
            (Identity::Anybody | Identity::Node, _) => Ok(()),
            (Identity::Token(_), Need::Node) => {
                let cause = "only nodes of the cluster may ask this: the certificate is none of a node";
                Err(Status::permission_denied(cause))
            }
            (Identity::Token(hash), need) => {
                let gone = || Status::unauthenticated("the token was taken away");
                let grant = self.0.access.grant(hash).ok_or_else(gone)?;
                match need {
                    Need::Action(action) if !grant.allows(action) => {
                        let (name, actions) = (&grant.name, grant.actions());
                        let cause = format!("the token `{name}` is not for {action}; its actions are {actions}");
                        Err(Status::permission_denied(cause))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn may_use(&self, database: &DatabaseName) -> Result<(), Status> {
        let Identity::Token(hash) = &self.0.identity else { return Ok(()) };
        match self.0.access.grant(hash) {
            None => Err(Status::unauthenticated("the token was taken away")),
            Some(grant) if grant.is_for(database) => Ok(()),
            Some(grant) => {
                let cause = format!("the token `{}` is not for the database `{database}`", grant.name);
                Err(Status::permission_denied(cause))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tonic::Code;

    use super::super::action::{Action, RULES, rule_of};
    use super::super::grant::{Grants, TokenConfig, TokenIs};
    use super::super::token::{Token, TokenHash};
    use super::*;

    async fn grants(hash: TokenHash, patterns: &[&str], actions: &[Action]) -> Grants {
        let config = TokenConfig {
            name: "it".to_owned(),
            token: TokenIs::Hash(hash),
            databases: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            actions: actions.iter().copied().collect(),
        };
        Grants::read(&[config]).await.unwrap()
    }

    async fn access(patterns: &[&str], actions: &[Action]) -> (Arc<Access>, TokenHash) {
        seawall_host::real::install();
        let hash = Token::generate().hash();
        (Access::guarded("prod", grants(hash, patterns, actions).await), hash)
    }

    fn name(text: &str) -> DatabaseName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_token_allows_its_actions_and_nothing_of_nodes() {
        for (actions, code) in [(&[Action::Write][..], None), (&[Action::Restore][..], Some(Code::PermissionDenied))] {
            let (access, hash) = access(&["app"], actions).await;
            for rule in RULES {
                let admitted = Caller::admit(&access, Identity::Token(hash), rule);
                let found = admitted.err().map(|status| status.code());
                let expected = match rule.need {
                    Need::Action(Action::Write) => code,
                    Need::Action(action) => (!actions.contains(&action)).then_some(Code::PermissionDenied),
                    Need::Token => None,
                    Need::Node => Some(Code::PermissionDenied),
                    Need::Elsewhere => Some(Code::Unimplemented),
                };
                assert_eq!(found, expected, "{} {actions:?}", rule.path);
            }
        }
    }

    #[tokio::test]
    async fn a_token_is_for_the_databases_that_its_patterns_match() {
        let (access, hash) = access(&["app", "tenants/*"], &[Action::Write]).await;
        let rule = rule_of("/seawall.v1.Ingest/Claim").unwrap();
        let caller = Caller::admit(&access, Identity::Token(hash), rule).unwrap();
        assert!(!caller.has_asked());
        assert!(caller.check(&name("tenants/acme")).is_ok() && caller.has_asked());
        let denied = caller.check(&name("other")).unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        let mut list = vec!["app", "other", "tenants/a/b", "tenants/a"];
        caller.retain(&mut list, |name| name);
        assert_eq!(list, ["app", "tenants/a"]);
        let node = Caller::admit(&access, Identity::Node, rule).unwrap();
        assert!(node.check(&name("other")).is_ok());
    }

    #[tokio::test]
    async fn a_call_under_way_ends_when_its_token_does_not_allow_it_any_more() {
        let write = &[Action::Write][..];
        for (patterns, actions) in [(&["app"][..], &[Action::Restore][..]), (&["other"], write), (&[], write)] {
            let (access, hash) = access(&["app"], write).await;
            let rule = rule_of("/seawall.v1.Ingest/Append").unwrap();
            let caller = Caller::admit(&access, Identity::Token(hash), rule).unwrap();
            caller.check(&name("app")).unwrap();
            assert!(caller.revoked().now_or_never().is_none());
            access.replace(grants(hash, &["*"], write).await);
            assert!(caller.revoked().now_or_never().is_none(), "it allows more than before");
            access.replace(grants(hash, patterns, actions).await);
            let status = caller.revoked().await;
            assert_eq!(status.code(), Code::PermissionDenied, "{patterns:?} {actions:?}");
            access.replace(Grants::default());
            assert_eq!(caller.revoked().await.code(), Code::Unauthenticated);
        }
    }
}
