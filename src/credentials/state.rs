//! The states of credentials and what may follow what (16/ECAP, 22/CAP; CM and CCM have the same
//! machine). Pure.
//!
//! ```text
//!              first use            suspend
//!   Inactive ────────────▶ Active ◀─────────▶ Suspended
//!                             │     activate      │
//!                             └───▶ Revoked ◀─────┘
//! ```
//!
//! Whatever the state, credentials can be deleted.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether credentials are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Good, and not used yet.
    Inactive,
    /// Good.
    Active,
    /// Not good for the time being.
    Suspended,
    /// Not good, for ever.
    Revoked,
}

/// What makes credentials change their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Somebody got in with them.
    FirstUse,
    /// They are to be good no more for the time being.
    Suspend,
    /// Suspended ones are to be good again.
    Activate,
    /// They are never to be good again.
    Revoke,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Active, Self::Suspended, Self::Revoked];

    /// The name in REST.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "Inactive",
            Self::Active => "Active",
            Self::Suspended => "Suspended",
            Self::Revoked => "Revoked",
        }
    }

    /// The state of that name, however it is capitalised.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }

    /// Whether credentials in this state let anybody in.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Inactive | Self::Active)
    }

    /// Whether somebody may be in with credentials that were in this state until now.
    pub fn is_live(self) -> bool {
        self == Self::Active
    }

    /// The step that management takes to bring credentials into this state; `None`: nobody brings
    /// them back there.
    pub fn step_here(self) -> Option<Move> {
        match self {
            Self::Inactive => None,
            Self::Active => Some(Move::Activate),
            Self::Suspended => Some(Move::Suspend),
            Self::Revoked => Some(Move::Revoke),
        }
    }

    /// The state that follows.
    ///
    /// # Errors
    /// Why none does, in words that complete "the credentials cannot be suspended: they …".
    pub fn after(self, step: Move) -> Result<Self, &'static str> {
        match (self, step) {
            (Self::Inactive, Move::FirstUse) => Ok(Self::Active),
            (Self::Active, Move::Suspend) => Ok(Self::Suspended),
            (Self::Suspended, Move::Activate) => Ok(Self::Active),
            (Self::Active | Self::Suspended, Move::Revoke) => Ok(Self::Revoked),
            (Self::Inactive, Move::Activate) => {
                Err("have not been used yet; their first use activates them")
            }
            (Self::Inactive, Move::Suspend | Move::Revoke) => {
                Err("have not been used yet; delete them instead")
            }
            (Self::Active, Move::Activate | Move::FirstUse) => Err("are active already"),
            (Self::Suspended, Move::Suspend | Move::FirstUse) => Err("are suspended"),
            (Self::Revoked, _) => Err("are revoked, which is for ever"),
        }
    }
}

impl Move {
    /// What is done to the credentials: "suspended".
    pub fn done(self) -> &'static str {
        match self {
            Self::FirstUse => "used",
            Self::Suspend => "suspended",
            Self::Activate => "activated",
            Self::Revoke => "revoked",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOVES: [Move; 4] = [Move::FirstUse, Move::Suspend, Move::Activate, Move::Revoke];

    /// The arrows of the picture that users see, as text.
    const ARROWS: [(&str, &str, &str); 5] = [
        ("Inactive", "used", "Active"),
        ("Active", "suspended", "Suspended"),
        ("Suspended", "activated", "Active"),
        ("Active", "revoked", "Revoked"),
        ("Suspended", "revoked", "Revoked"),
    ];

    proptest! {
        #[test]
        fn only_the_arrows_of_the_picture_are_followed(
            steps in proptest::collection::vec(0usize..4, 0..40)
        ) {
            let mut state = State::Inactive;
            let mut model = "Inactive";
            for step in steps {
                let step = MOVES[step];
                let arrow = ARROWS.iter().find(|arrow| (arrow.0, arrow.1) == (model, step.done()));
                match (state.after(step), arrow) {
                    (Ok(next), Some(arrow)) => {
                        state = next;
                        model = arrow.2;
                    }
                    (Err(why), None) => prop_assert!(!why.is_empty()),
                    (got, wanted) => prop_assert!(false, "{got:?} but {wanted:?}"),
                }
                prop_assert_eq!(state.name(), model);
            }
        }
    }

    #[test]
    fn a_step_leads_to_the_state_it_is_taken_for() {
        for state in State::ALL {
            let Some(step) = state.step_here() else { continue };
            let led_to: Vec<_> =
                State::ALL.iter().filter_map(|from| from.after(step).ok()).collect();
            assert!(!led_to.is_empty() && led_to.iter().all(|to| *to == state), "{state}");
        }
        assert_eq!(State::Inactive.step_here(), None);
    }

    #[test]
    fn names_are_read_back_whatever_their_case() {
        for state in State::ALL {
            assert_eq!(State::named(&state.name().to_lowercase()), Some(state));
            assert_eq!(serde_json::to_value(state).expect("is text"), state.name());
        }
        assert_eq!(State::named("ACTIV"), None);
    }
}
