//! Messages that this instance can't take and others may: they go back into their subscription,
//! again and again, while with everything else nothing is wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ambient;

/// What goes back comes again within that time.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Why the last of them went back; a cheap handle.
#[derive(Clone, Default)]
pub struct Returned(Arc<Mutex<Option<(Instant, String)>>>);

impl Returned {
    fn last(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One goes back; whether the reason is news.
    pub fn tells(&self, why: String) -> bool {
        let is_news = self.why().as_ref() != Some(&why);
        *self.last() = Some((ambient::now(), why));
        is_news
    }

    /// Why, while any goes back.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let last = self.last();
        let (at, why) = last.as_ref()?;
        (ambient::now().saturating_duration_since(*at) < TOLD_FOR).then(|| why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient::simulated;
    use crate::sim::{Chance, Machine};

    #[test]
    fn a_reason_is_news_once_and_is_told_while_messages_come_again() {
        let _world = simulated::enter(1, Machine::new(Chance(1)));
        let pass = |seconds| simulated::with(|world| world.pass(Duration::from_secs(seconds)));
        let returned = Returned::default();
        assert_eq!(returned.why(), None);
        assert!(returned.tells("too large".to_owned()));
        for _ in 0..10 {
            pass(15);
            assert_eq!(returned.why().as_deref(), Some("too large"));
            assert!(!returned.tells("too large".to_owned()));
        }
        assert!(returned.tells("too new".to_owned()));
        pass(60);
        assert_eq!(returned.why(), None, "another instance has it");
        assert!(returned.tells("too new".to_owned()));
    }
}
