//! Where a number is, by its id's hash: a table of open addresses, made for what a full index does
//! with every new id, which is to look for it, to add it and to take the oldest out.
//!
//! It is out of the processor's cache, so lines are what it costs: all three touch one line each,
//! mostly, and [`Places::touch`] fetches them beforehand, many at a time. A place is taken by the
//! first free one behind the one that its hash asks for (linear probing), and freed by moving up
//! those behind it: there are no tombstones that would have to be swept
//! (Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithms L and R).

use super::IdHash;

/// At most so many of four places are taken, else the table grows.
const TAKEN_OF_FOUR: usize = 3;
/// By so many halves.
const GROWS_TO_HALVES: usize = 3;
const PLACES_MIN: usize = 64;

/// Bytes that a number takes at the lowest load of a table that has grown.
pub(super) const BYTES_PER_NUMBER: usize = size_of::<u64>() * 2;

/// Numbers by the hashes of their ids.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// A tag, never 0, and the number below it; 0 where there is none.
    places: Vec<u64>,
    taken: usize,
}

/// What is kept of a hash: enough to tell its place in a table of any size.
fn tag(hash: IdHash) -> u64 {
    u64::from((hash >> 96) as u32 | 1)
}

impl Places {
    /// The number of that hash which is the right one.
    pub fn find(&self, hash: IdHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut at = self.wanted(tag);
        loop {
            match *self.places.get(at)? {
                0 => return None,
                place if place >> 32 == tag && is_it(place as u32) => return Some(place as u32),
                _ => at = self.behind(at),
            }
        }
    }

    /// Adds a number.
    pub fn insert(&mut self, hash: IdHash, number: u32) {
        if 4 * (self.taken + 1) > TAKEN_OF_FOUR * self.places.len() {
            self.grow();
        }
        self.put(tag(hash) << 32 | u64::from(number));
        self.taken += 1;
    }

    /// Removes a number, if it is there.
    pub fn remove(&mut self, hash: IdHash, number: u32) {
        let sought = tag(hash) << 32 | u64::from(number);
        let mut free = self.wanted(tag(hash));
        loop {
            match self.places.get(free) {
                None | Some(0) => return,
                Some(place) if *place == sought => break,
                Some(_) => free = self.behind(free),
            }
        }
        self.taken -= 1;
        // Whoever is behind and may stand there moves up: else nobody would find it.
        let mut at = self.behind(free);
        while self.places[at] != 0 {
            let wanted = self.wanted(self.places[at] >> 32);
            if self.distance(wanted, at) >= self.distance(free, at) {
                self.places[free] = self.places[at];
                free = at;
            }
            at = self.behind(at);
        }
        self.places[free] = 0;
    }

    /// Fetches what [`find`](Self::find), [`insert`](Self::insert) and [`remove`](Self::remove) of
    /// that hash will look at; what it returns means nothing.
    pub fn touch(&self, hash: IdHash) -> u64 {
        self.places.get(self.wanted(tag(hash))).copied().unwrap_or(0)
    }

    fn put(&mut self, place: u64) {
        let mut at = self.wanted(place >> 32);
        while self.places[at] != 0 {
            at = self.behind(at);
        }
        self.places[at] = place;
    }

    fn grow(&mut self) {
        let places = (self.places.len() * GROWS_TO_HALVES / 2).max(PLACES_MIN);
        for place in std::mem::replace(&mut self.places, vec![0; places]) {
            if place != 0 {
                self.put(place);
            }
        }
    }

    /// The place that a tag asks for: the tag's share of the table's length.
    fn wanted(&self, tag: u64) -> usize {
        ((tag * self.places.len() as u64) >> 32) as usize
    }

    fn behind(&self, at: usize) -> usize {
        if at + 1 < self.places.len() { at + 1 } else { 0 }
    }

    /// Steps from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to { to - from } else { to + self.places.len() - from }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few tags, so that most of them ask for the same places, also at the table's end.
    fn hash(n: u8) -> IdHash {
        let tag = if n < 128 { u32::MAX - u32::from(n / 32) } else { u32::from(n) << 24 };
        u128::from(tag) << 96 | u128::from(n)
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_is_found_as_a_map_finds_it(
            steps in prop::collection::vec((any::<u8>(), any::<bool>()), 0..600),
        ) {
            let (mut places, mut map) = (Places::default(), HashMap::new());
            for (number, (n, adds)) in (0..).zip(steps) {
                match map.get(&n).copied() {
                    None if adds => {
                        places.insert(hash(n), number);
                        map.insert(n, number);
                    }
                    Some(found) if !adds => {
                        places.remove(hash(n), found);
                        places.remove(hash(n), found);
                        map.remove(&n);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(places.taken, map.len());
            for n in 0..=u8::MAX {
                let known = map.get(&n).copied();
                let found = places.find(hash(n), |number| known.is_none_or(|known| known == number));
                prop_assert_eq!(found.filter(|_| known.is_some()), known);
            }
        }
    }
}
