//! Endpoints that may be in one place only (policy `reject`): whoever speaks for one first keeps it
//! until he leaves. Within the shard its table tells; beyond, the control thread is asked, whose
//! directory settles between shards, and which hears of other replicas.

use std::collections::HashMap;
use std::rc::Rc;

use super::core::Core;
use super::correlation::ConnectionKey;
use super::dropped::{Drop, Stop};
use crate::auth::{Grant, Known, Rejection};
use crate::session::catalogue::AppId;

/// Endpoints whose place is being asked for. Messages wait for the answer as they do for a verdict.
#[derive(Debug, Default)]
pub(super) struct Places {
    asked: HashMap<Box<str>, u64, foldhash::fast::RandomState>,
    /// Whose place is asked for under a number, and as which application version it speaks.
    grants: HashMap<u64, (Rc<Grant>, Box<str>), foldhash::fast::RandomState>,
    /// The endpoint whose place has just been granted, while what waited for it is carried.
    granted: Option<Rc<Grant>>,
}

impl Places {
    /// Whether the directory holds this endpoint to be here already.
    pub fn is_granted(&self, endpoint_id: &str) -> bool {
        self.granted.as_ref().is_some_and(|grant| *grant.endpoint_id == *endpoint_id)
    }
}

impl Core {
    /// Whether `speaker` may speak for the endpoint of a token, as far as that depends on where it
    /// is; `None` is a connection that has ended. Nobody is asked for a message of `bytes` that
    /// cannot wait for the answer.
    pub(super) fn check_place(
        &mut self,
        grant: &Rc<Grant>,
        app_version: &str,
        speaker: Option<ConnectionKey>,
        bytes: usize,
    ) -> Result<(), Stop> {
        let rejecting = &self.settings.auth.rejecting;
        if !rejecting.contains(&AppId(grant.app)) || self.places.is_granted(&grant.endpoint_id) {
            return self.check_holder(grant, speaker);
        }
        match self.endpoints.find(&grant.endpoint_id) {
            Some(_) => self.check_holder(grant, speaker),
            None if !self.can_park(bytes) => Err(Stop::no_room()),
            None => self.ask_place(grant, app_version),
        }
    }

    /// In an application that rejects, only the holder of an endpoint speaks for it.
    fn check_holder(&self, grant: &Grant, speaker: Option<ConnectionKey>) -> Result<(), Stop> {
        if !self.settings.auth.rejecting.contains(&AppId(grant.app)) {
            return Ok(());
        }
        let holder = self.endpoints.find(&grant.endpoint_id).map(|e| e.holder.connection);
        match holder {
            Some(holder) if Some(holder) != speaker => {
                Err(Stop::Drop(Drop::rejected(&elsewhere())))
            }
            _ => Ok(()),
        }
    }

    fn ask_place(&mut self, grant: &Rc<Grant>, app_version: &str) -> Result<(), Stop> {
        if let Some(number) = self.places.asked.get(&grant.endpoint_id) {
            return Err(Stop::Park(*number));
        }
        let number = self.asks.number();
        self.places.asked.insert(grant.endpoint_id.clone(), number);
        self.places.grants.insert(number, (grant.clone(), app_version.into()));
        self.reporter.endpoint_wanted(number, grant.endpoint_id.clone(), app_version.into());
        Err(Stop::Park(number))
    }

    /// Answers may have been lost: asks for every place again. A second answer changes nothing.
    pub(super) fn ask_places_again(&mut self) {
        for (number, (grant, app_version)) in &self.places.grants {
            let endpoint_id = grant.endpoint_id.clone();
            self.reporter.endpoint_wanted(*number, endpoint_id, app_version.clone());
        }
    }

    /// The control thread has said whether an endpoint's place is here.
    pub(super) fn placed(&mut self, number: u64, is_granted: bool) {
        let Some((grant, _)) = self.places.grants.remove(&number) else { return };
        self.places.asked.remove(&grant.endpoint_id);
        if !is_granted {
            return self.release_parked(number, &Known::Bad(elsewhere().into()));
        }
        self.places.granted = Some(grant.clone());
        self.release_parked(number, &Known::Good(grant.clone(), u64::MAX));
        self.places.granted = None;
        if self.endpoints.find_key(&grant.endpoint_id).is_none() {
            // Nobody is left who wanted it.
            self.reporter.endpoint_gone(grant.endpoint_id.clone());
        }
    }
}

fn elsewhere() -> Rejection {
    Rejection::new(409, "the endpoint is connected elsewhere")
}
