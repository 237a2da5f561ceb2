//! Tokens: who may call what, for which databases, and until when.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod secured;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use seawall_host::task;
use seawall_host::time::{self, Instant};
use seawall_node::reconfigure::keep_tokens;
use seawall_node::security::{Action, Need, RULES, Role, Token};
use seawall_proto::v1;
use seawall_proto::v1::append_request::Message;
use seawall_proto::v1::restore_client::RestoreClient;
use secured::{Caller, PATIENCE, Secured, entry, framed};
use tonic::Code;

fn tokens<const N: usize>() -> [Token; N] {
    seawall_host::real::install();
    std::array::from_fn(|_| Token::generate())
}

/// Every call that the protocol has, and one that it has not.
fn paths() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.path).chain(["/seawall.v1.Ingest/Nothing", "/", "/grpc.health.v1.Health/Check"])
}

#[tokio::test]
async fn nothing_is_answered_without_a_token() {
    let [known, unknown] = tokens();
    let it = Secured::start(&[entry("a", &known, "\"**\"", "write, restore, admin")], "").await;
    for role in [Role::Agent, Role::Client] {
        let files = it.issue(role, "stranger");
        for token in [None, Some(&unknown)] {
            let mut said = std::collections::BTreeSet::new();
            for path in paths() {
                // On connections of their own: those on which much is refused are closed.
                let answer = it.call_as(&files, token).await.raw(path, framed(b"")).await.unwrap();
                assert_eq!(answer.code, Code::Unauthenticated, "{path}: {}", answer.message);
                assert!(answer.body.is_empty(), "{path}");
                said.insert(answer.message);
            }
            assert_eq!(said.len(), 1, "the same is said of everything: {said:?}");
        }
    }
    assert_eq!(it.call(Role::Agent, Some(&known)).await.databases().await.unwrap(), [] as [&str; 0]);
}

#[tokio::test]
async fn calls_of_nodes_want_a_certificate_of_a_node_and_no_token_stands_in_for_it() {
    let [all] = tokens();
    let it = Secured::start(&[entry("all", &all, "\"**\"", "write, restore, admin")], "").await;
    let (agent, node) = (it.call(Role::Agent, Some(&all)).await, it.call(Role::Node, None).await);
    for rule in RULES {
        let by_token = agent.raw(rule.path, framed(b"")).await.unwrap();
        let by_node = node.raw(rule.path, framed(b"")).await.unwrap();
        match rule.need {
            Need::Node => {
                assert_eq!(by_token.code, Code::PermissionDenied, "{}: {}", rule.path, by_token.message);
                assert!(by_token.message.contains("only%20nodes"), "{}", by_token.message);
            }
            Need::Elsewhere => assert_eq!(by_token.code, Code::Unimplemented, "{}", rule.path),
            Need::Action(_) | Need::Token => {
                let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];
                assert!(!refused.contains(&by_token.code), "{}: {}", rule.path, by_token.message);
            }
        }
        let denied = [Code::PermissionDenied, Code::Unauthenticated, Code::Internal];
        assert!(!denied.contains(&by_node.code), "{}: {:?} {}", rule.path, by_node.code, by_node.message);
    }
}

#[tokio::test]
async fn a_token_allows_its_actions_only() {
    let [write, restore, admin] = tokens();
    let entries = [
        entry("writer", &write, "\"**\"", "write"),
        entry("reader", &restore, "\"**\"", "restore"),
        entry("operator", &admin, "\"**\"", "admin"),
    ];
    let it = Secured::start(&entries, "").await;
    for (token, action) in [(&write, Action::Write), (&restore, Action::Restore), (&admin, Action::Admin)] {
        let caller = it.call(Role::Client, Some(token)).await;
        for rule in RULES {
            let Need::Action(needed) = rule.need else { continue };
            let answer = caller.raw(rule.path, framed(b"")).await.unwrap();
            assert_eq!(answer.code == Code::PermissionDenied, needed != action, "{}: {}", rule.path, answer.message);
        }
        assert!(caller.databases().await.is_ok(), "everybody with a token sees how the cluster stands");
    }
}

/// What every call that names a database says of one.
async fn asked_of(caller: &Caller, database: &str) -> Vec<(&'static str, Code, String)> {
    let database = database.to_owned();
    let mut ingest = caller.ingest();
    let mut restore = RestoreClient::new(caller.channel.clone());
    let open = v1::AppendOpen { database: database.clone(), lineage: 1, epoch: 1, agent_id: 7 };
    let open = futures::stream::iter([v1::AppendRequest { message: Some(Message::Open(open)) }]);
    let appended = match ingest.append(open.chain(futures::stream::pending())).await {
        // One that was let in says nothing until there is something to say.
        Ok(answers) => match time::timeout(Duration::from_millis(300), answers.into_inner().message()).await {
            Ok(answer) => answer.map(|_| ()),
            Err(time::Elapsed) => Ok(()),
        },
        Err(status) => Err(status),
    };
    let hashes = v1::PageHashesRequest { database: database.clone(), lineage: 1, txid: 0 };
    let hashes = match ingest.page_hashes(hashes).await {
        Ok(chunks) => chunks.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let head = v1::GetHeadRequest { database: database.clone(), allow_stale: false };
    let stale = v1::GetHeadRequest { allow_stale: true, ..head.clone() };
    let receipt = v1::AwaitReceiptRequest { database: database.clone(), ..Default::default() };
    let describe = |include_destinations| v1::DescribeRequest {
        database: database.clone(),
        allow_stale: true,
        include_destinations,
    };
    let object = v1::RestoreObject { source: "node".to_owned(), level: "snapshot".to_owned(), ..Default::default() };
    let object = v1::ReadObjectRequest { database: database.clone(), object: Some(object), ..Default::default() };
    let object = match restore.read_object(object).await {
        Ok(chunks) => chunks.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let outcomes = [
        ("Claim", caller.claim(&database).await.map(|_| ())),
        ("Append", appended),
        ("PageHashes", hashes),
        ("GetHead", ingest.get_head(head).await.map(|_| ())),
        ("GetHead, stale", ingest.get_head(stale).await.map(|_| ())),
        ("AwaitReceipt", ingest.await_receipt(receipt).await.map(|_| ())),
        ("Describe", restore.describe(describe(false)).await.map(|_| ())),
        ("Describe, wide", restore.describe(describe(true)).await.map(|_| ())),
        ("ReadObject", object),
    ];
    let told = outcomes.into_iter().map(|(call, outcome)| match outcome {
        Ok(()) => (call, Code::Ok, String::new()),
        Err(status) => (call, status.code(), status.message().replace(&database, "NAME")),
    });
    told.collect()
}

#[tokio::test]
async fn another_agents_token_gives_nothing_and_does_not_tell_what_there_is() {
    let [mine, other] = tokens();
    let entries = [
        entry("mine", &mine, "app, \"tenants/*\"", "write, restore"),
        entry("other", &other, "secret", "write, restore"),
    ];
    let it = Secured::start(&entries, "").await;
    let (mine, other) = (it.call(Role::Agent, Some(&mine)).await, it.call(Role::Agent, Some(&other)).await);
    other.claim("secret").await.unwrap();
    mine.claim("app").await.unwrap();
    mine.claim("tenants/acme").await.unwrap();

    let there = asked_of(&mine, "secret").await;
    let not_there = asked_of(&mine, "nothing").await;
    assert_eq!(there, not_there, "what is not theirs looks the same whether or not it is there");
    for (call, code, message) in there {
        assert_eq!(code, Code::PermissionDenied, "{call}: {message}");
        assert!(message.contains("`mine` is not for the database `NAME`"), "{call}: {message}");
    }
    for (call, code, message) in asked_of(&mine, "app").await {
        assert_ne!(code, Code::PermissionDenied, "{call}: {message}");
    }

    let mut seen = mine.databases().await.unwrap();
    seen.sort();
    assert_eq!(seen, ["app", "tenants/acme"]);
    assert_eq!(other.databases().await.unwrap(), ["secret"]);
    let mut all = it.call(Role::Node, None).await.databases().await.unwrap();
    all.sort();
    assert_eq!(all, ["app", "secret", "tenants/acme"]);
}

/// An append stream that was opened; it says nothing until there is something to say.
async fn stream(caller: &Caller, database: &str) -> tonic::Streaming<v1::AppendResponse> {
    let Some(v1::claim_response::Outcome::Granted(granted)) = caller.claim(database).await.unwrap().outcome else {
        panic!("the claim was not granted")
    };
    let lineage = granted.head.unwrap().lineage;
    let open = v1::AppendOpen { database: database.to_owned(), lineage, epoch: granted.epoch, agent_id: 7 };
    let messages = futures::stream::iter([v1::AppendRequest { message: Some(Message::Open(open)) }]);
    caller.ingest().append(messages.chain(futures::stream::pending())).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_the_stream_that_it_opened() {
    let [taken, kept, narrowed] = tokens();
    let entries = [
        entry("taken", &taken, "taken", "write"),
        entry("kept", &kept, "kept", "write"),
        entry("narrowed", &narrowed, "\"narrow*\"", "write"),
    ];
    let it = Secured::start(&entries, "").await;
    let _watch = task::spawn_owned(keep_tokens(it.config_file(), it.config.clone(), Arc::clone(it.node.access())));
    let callers = [
        it.call(Role::Agent, Some(&taken)).await,
        it.call(Role::Agent, Some(&kept)).await,
        it.call(Role::Agent, Some(&narrowed)).await,
    ];
    let mut streams =
        [stream(&callers[0], "taken").await, stream(&callers[1], "kept").await, stream(&callers[2], "narrow-1").await];

    // What cannot be read takes nothing away.
    std::fs::write(it.config_file(), "tokens: null\n").unwrap();
    let still = time::timeout(Duration::from_millis(500), streams[0].message()).await;
    assert!(still.is_err(), "{still:?}");

    it.rewrite(&[entry("kept", &kept, "kept", "write"), entry("narrowed", &narrowed, "narrow-2", "write")]);
    let ended = time::timeout(PATIENCE, streams[0].message()).await.unwrap().unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unauthenticated, "the token was taken away"));
    let ended = time::timeout(PATIENCE, streams[2].message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied, "{}", ended.message());
    assert_eq!(callers[0].claim("taken").await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(callers[2].claim("narrow-1").await.unwrap_err().code(), Code::PermissionDenied);
    assert!(callers[2].claim("narrow-2").await.is_ok());
    let still = time::timeout(Duration::from_millis(200), streams[1].message()).await;
    assert!(still.is_err(), "{still:?}");
    assert!(callers[1].claim("kept").await.is_ok());
}

#[tokio::test]
async fn a_token_in_a_file_is_exchanged_by_writing_another_into_it() {
    let [old, new] = tokens();
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{}\n", old.reveal())).unwrap();
    let by_file = format!("{{ name: a, token-file: \"{}\", databases: [ a ], actions: [ write ] }}", file.display());
    let it = Secured::start(&[by_file], "").await;
    let _watch = task::spawn_owned(keep_tokens(it.config_file(), it.config.clone(), Arc::clone(it.node.access())));
    assert!(it.call(Role::Agent, Some(&old)).await.databases().await.is_ok());
    assert!(it.call(Role::Agent, Some(&new)).await.databases().await.is_err());
    std::fs::write(&file, new.reveal()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while it.call(Role::Agent, Some(&new)).await.databases().await.is_err() {
        assert!(Instant::now() < deadline, "the new token is not taken");
        time::sleep(Duration::from_millis(100)).await;
    }
    assert!(it.call(Role::Agent, Some(&old)).await.databases().await.is_err());
}

#[tokio::test]
async fn guessing_is_slow_and_costs_the_connection() {
    let [known] = tokens();
    let it = Secured::start(&[entry("a", &known, "a", "write")], "").await;
    let files = it.issue(Role::Agent, "guesser");
    let guesser = it.call_as(&files, Some(&Token::generate())).await;
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(guesser.databases().await.unwrap_err().code(), Code::Unauthenticated);
    }
    // 50, 100, 200, 400, 800 ms.
    assert!(began.elapsed() >= Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert!(it.call(Role::Agent, Some(&known)).await.databases().await.is_ok(), "others are not held up");
}
