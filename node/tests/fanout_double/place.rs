//! A destination in memory that does what it is told, wrong things too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt};
use seawall_node::destination::{
    ByteStream, Creation, Destination, DestinationError, ListedObject, NamedDestination, Retention,
    VerificationOptions, Windows,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Works,
    /// Every creation fails.
    Fails,
    /// Creations succeed and are answered with a failure.
    FailsAfterwards,
    /// Creations never end.
    Hangs,
    /// Deletions are refused.
    Locked,
}

struct State {
    objects: BTreeMap<String, Bytes>,
    behaviour: Behaviour,
    requests: u32,
    streamed: u32,
}

#[derive(Clone)]
pub struct TestPlace(Arc<Mutex<State>>);

impl TestPlace {
    pub fn new() -> Self {
        let (objects, behaviour) = (BTreeMap::new(), Behaviour::Works);
        Self(Arc::new(Mutex::new(State { objects, behaviour, requests: 0, streamed: 0 })))
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.0.lock().unwrap().behaviour = behaviour;
    }

    /// Requests so far, probes left out.
    pub fn requests(&self) -> u32 {
        self.0.lock().unwrap().requests
    }

    /// Objects that were created from streams.
    pub fn streamed(&self) -> u32 {
        self.0.lock().unwrap().streamed
    }

    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.lock().unwrap().objects.clone()
    }

    pub fn put(&self, name: &str, content: Bytes) {
        self.0.lock().unwrap().objects.insert(name.to_owned(), content);
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().objects.remove(name).unwrap();
    }

    /// With small windows, and without merged objects and snapshots.
    pub fn named(&self, name: &str, upload_interval: std::time::Duration) -> NamedDestination {
        let windows = Windows {
            upload_interval,
            upload_bytes: 64 << 10,
            snapshot_min_bytes: 1 << 30,
            level_one_interval: std::time::Duration::ZERO,
            level_two_interval: std::time::Duration::ZERO,
            ..Windows::default()
        };
        NamedDestination {
            name: name.to_owned(),
            windows,
            retention: Retention::default(),
            verification: VerificationOptions::default(),
            destination: Arc::new(self.clone()),
        }
    }

    fn unavailable(action: &str) -> DestinationError {
        DestinationError::Unavailable {
            destination: "test://".to_owned(),
            action: action.to_owned(),
            cause: "the network is down".to_owned(),
        }
    }
}

#[async_trait]
impl Destination for TestPlace {
    fn url(&self) -> &str {
        "test://"
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        Ok(())
    }

    fn creates_conditionally(&self) -> bool {
        true
    }

    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let behaviour = self.0.lock().unwrap().behaviour;
        self.0.lock().unwrap().requests += 1;
        match behaviour {
            Behaviour::Hangs => future::pending().await,
            Behaviour::Fails => return Err(Self::unavailable("create")),
            Behaviour::Works | Behaviour::FailsAfterwards | Behaviour::Locked => {}
        }
        let mut state = self.0.lock().unwrap();
        if state.objects.contains_key(name) {
            return Ok(Creation::AlreadyExists);
        }
        state.objects.insert(name.to_owned(), parts.concat().into());
        if behaviour == Behaviour::FailsAfterwards {
            return Err(Self::unavailable("create"));
        }
        Ok(Creation::Created)
    }

    async fn create_streaming(
        &self,
        name: &str,
        _: Option<u64>,
        content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        let pieces: Vec<_> = content.collect().await;
        let pieces: Result<Vec<Bytes>, _> = pieces.into_iter().collect();
        let pieces = pieces.map_err(|error| DestinationError::Source {
            destination: "test://".to_owned(),
            name: name.to_owned(),
            cause: error.to_string(),
        })?;
        self.0.lock().unwrap().streamed += 1;
        self.create(name, pieces).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError> {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        let found = state.objects.get(name).cloned();
        let missing = || DestinationError::NotFound { destination: "test://".to_owned(), name: name.to_owned() };
        let object = found.ok_or_else(missing)?;
        let end = object.len().min(usize::try_from(offset + length).unwrap());
        Ok(object.slice(end.min(offset as usize)..end))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        let objects = state.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let listed = objects.map(|(name, content)| ListedObject { name: name.clone(), size: content.len() as u64 });
        Ok(listed.collect())
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        if state.behaviour == Behaviour::Locked {
            return Err(DestinationError::Refused {
                destination: "test://".to_owned(),
                action: format!("delete {name}"),
                cause: "it is locked".to_owned(),
            });
        }
        state.objects.remove(name);
        Ok(())
    }
}
