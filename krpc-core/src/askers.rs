//! Who asked, by number: callers whose answers are sealed for nobody else. So where a call comes
//! from stays small, and answers for different askers share no packet.
//!
//! Only who has a key gets here, so strangers fill nothing. Of more than the limit, who was not
//! heard of for longest is forgotten: answers for them cannot be sealed any more, and are not sent.
//!
//! Pure. from: [`crate::sealing`], with records that opened
//! to: [`crate::server`], which asks who may call what; [`crate::outbox`], which seals

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    sealing::{Asker, Proof},
    status::{Code, Status},
};

/// Askers that are remembered, at least; at most twice as many. Each takes 150 bytes and its name.
const REMEMBERED: usize = 32_768;

/// Somebody who asked, as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AskerId(u32);

impl AskerId {
    /// Nobody in particular: no key vouches for what was asked.
    pub const NOBODY: Self = Self(0);

    /// Somebody who has a key of all.
    pub const INSIDER: Self = Self(1);
}

/// The numbers of who asked. Event: [`Askers::handle_proof`].
#[derive(Debug, Default)]
pub struct Askers {
    young: Generation,
    old: Generation,
    last: u32,
}

#[derive(Debug, Default)]
struct Generation {
    ids: HashMap<Asker, AskerId>,
    askers: HashMap<AskerId, Asker>,
}

impl Askers {
    /// A packet came, and this is known of who wrote it.
    #[inline]
    pub fn handle_proof(&mut self, proof: &Proof) -> AskerId {
        match proof {
            Proof::None => AskerId::NOBODY,
            Proof::Key => AskerId::INSIDER,
            Proof::Asker(asker) => self.number(asker),
        }
    }

    /// The number of somebody who asks.
    #[cold]
    pub fn number(&mut self, asker: &Asker) -> AskerId {
        if let Some(id) = self.young.ids.get(asker) {
            return *id;
        }
        let known = self.old.ids.get(asker).copied();
        let id = known.unwrap_or_else(|| self.next());
        if self.young.ids.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.ids.insert(asker.clone(), id);
        self.young.askers.insert(id, asker.clone());
        id
    }

    /// A number that nobody has.
    fn next(&mut self) -> AskerId {
        loop {
            self.last = self.last.checked_add(1).unwrap_or_default().max(AskerId::INSIDER.0 + 1);
            let id = AskerId(self.last);
            let is_taken = |it: &Generation| it.askers.contains_key(&id);
            if !is_taken(&self.young) && !is_taken(&self.old) {
                return id;
            }
        }
    }

    /// Whom an answer is to be sealed for; `None` if for all.
    ///
    /// # Errors
    /// That is not known any more: it cannot be sealed.
    pub fn get(&self, id: AskerId) -> Result<Option<&Asker>, Status> {
        if id == AskerId::NOBODY || id == AskerId::INSIDER {
            return Ok(None);
        }
        let asker = self.young.askers.get(&id).or_else(|| self.old.askers.get(&id));
        let forgotten = || Status::new(Code::ResourceExhausted, "too many others asked since then");
        asker.map(Some).ok_or_else(forgotten)
    }

    /// The name of the caller whose key was used.
    pub fn caller(&self, id: AskerId) -> Option<&Arc<str>> {
        self.get(id).ok()??.caller.as_ref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn asker(number: u32) -> Asker {
        Asker { caller: Some("billing".into()), key: number, offer: None }
    }

    #[test]
    fn each_who_asks_has_a_number_and_keeps_it() {
        let mut askers = Askers::default();
        assert_eq!(askers.handle_proof(&Proof::None), AskerId::NOBODY);
        assert_eq!(askers.handle_proof(&Proof::Key), AskerId::INSIDER);
        let one = askers.handle_proof(&Proof::Asker(Box::new(asker(1))));
        let two = askers.number(&asker(2));
        assert!(one != two && one == askers.number(&asker(1)));
        assert_eq!(askers.get(two), Ok(Some(&asker(2))));
        assert_eq!(askers.caller(one).unwrap().as_ref(), "billing");
        assert_eq!(askers.get(AskerId::NOBODY), Ok(None));
        assert_eq!(askers.caller(AskerId::INSIDER), None);
    }

    #[test]
    fn who_was_not_heard_of_for_longest_is_forgotten() {
        let mut askers = Askers::default();
        let (first, kept) = (askers.number(&asker(0)), askers.number(&asker(1)));
        for number in 2..u32::try_from(2 * REMEMBERED + 2).unwrap() {
            askers.number(&asker(number));
            assert_eq!(askers.number(&asker(1)), kept);
            assert!(askers.young.ids.len() + askers.old.ids.len() <= 2 * REMEMBERED);
        }
        assert!(askers.get(first).is_err());
        assert_eq!(askers.get(kept), Ok(Some(&asker(1))));
        assert_ne!(askers.number(&asker(0)), first, "a number is nobody else's");
    }
}
