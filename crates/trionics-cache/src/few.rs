//! A list that seldom holds more than a few: these need no allocation.

use std::array;

/// At most `N` are kept in place, the rest in a vector.
pub(crate) struct Few<T, const N: usize> {
    n_first: usize,
    first: [Option<T>; N],
    rest: Vec<T>,
}

impl<T, const N: usize> Few<T, N> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            n_first: 0,
            first: [const { None }; N],
            rest: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.n_first == 0
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.first.get_mut(self.n_first) {
            Some(place) => {
                *place = Some(item);
                self.n_first += 1;
            }
            None => self.rest.push(item),
        }
    }
}

impl<T, const N: usize> Extend<T> for Few<T, N> {
    #[inline]
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

impl<T, const N: usize> IntoIterator for Few<T, N> {
    type Item = T;
    type IntoIter =
        std::iter::Chain<std::iter::Flatten<array::IntoIter<Option<T>, N>>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().flatten().chain(self.rest)
    }
}
