//! A list that seldom holds more than a few: these need no allocation, and a list that stays empty next to nothing.

use std::{
    collections::VecDeque,
    mem::{self, ManuallyDrop},
};

/// At most `N` are kept in place, the rest in a queue.
pub(crate) struct Few<T, const N: usize> {
    /// Those from `n_taken` to `n_first` are there; the list's own drop takes them out.
    first: ManuallyDrop<[Option<T>; N]>,
    n_first: usize,
    n_taken: usize,
    rest: Option<VecDeque<T>>,
}

impl<T, const N: usize> Few<T, N> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            first: ManuallyDrop::new([const { None }; N]),
            n_first: 0,
            n_taken: 0,
            rest: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.n_first == 0
    }

    pub(crate) fn reserve(&mut self, n_more: usize) {
        let n_rest = (self.n_first + n_more).saturating_sub(N);
        if n_rest > 0 {
            self.rest.get_or_insert_default().reserve(n_rest);
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        match self.first.get_mut(self.n_first) {
            Some(place) => {
                // Nothing was there: no need to look what would have to be dropped.
                mem::forget(place.replace(item));
                self.n_first += 1;
            }
            None => self.rest.get_or_insert_default().push_back(item),
        }
    }

    /// Takes them out, the first one first. If `take` panics, the others stay, for another call.
    #[inline]
    pub(crate) fn take_each(&mut self, mut take: impl FnMut(T)) {
        while self.n_taken < self.n_first {
            self.n_taken += 1;
            if let Some(item) = self.first[self.n_taken - 1].take() {
                take(item);
            }
        }
        if let Some(rest) = &mut self.rest {
            while let Some(item) = rest.pop_front() {
                take(item);
            }
        }
        (self.n_first, self.n_taken) = (0, 0);
    }
}

impl<T, const N: usize> Drop for Few<T, N> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.take_each(drop);
        }
    }
}
