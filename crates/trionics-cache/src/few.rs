//! A list that seldom holds more than a few: these need no allocation.

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

    pub(crate) fn reserve(&mut self, n_more: usize) {
        self.rest.reserve((self.n_first + n_more).saturating_sub(N));
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        match self.first.get_mut(self.n_first) {
            Some(place) => {
                *place = Some(item);
                self.n_first += 1;
            }
            None => self.rest.push(item),
        }
    }

    /// Takes them out, the first one first.
    #[inline]
    pub(crate) fn take_each(&mut self, mut take: impl FnMut(T)) {
        for place in &mut self.first[..self.n_first] {
            if let Some(item) = place.take() {
                take(item);
            }
        }
        self.n_first = 0;
        for item in self.rest.drain(..) {
            take(item);
        }
    }
}
