//! What every request writes, in more places than one.
//!
//! What two threads write by turns goes from one core to the other and back: that takes longer than whatever was to be written.

use std::{
    array,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::apart::Apart;

/// A few of one thing. Each thread has one of them to write to, alone as long as there are not more threads.
#[derive(Debug)]
pub(crate) struct PerThread<T>([Apart<T>; PLACES]);

const PLACES: usize = 16;

impl<T> PerThread<T> {
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        Self(array::from_fn(|_| Apart(make())))
    }

    /// That of this thread.
    pub(crate) fn here(&self) -> &T {
        thread_local! {
            static PLACE: usize = {
                static THREADS: AtomicUsize = AtomicUsize::new(0);
                THREADS.fetch_add(1, Ordering::Relaxed) % PLACES
            };
        }
        &self.0[PLACE.with(|place| *place)].0
    }

    /// Those of all threads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Apart(one)| one)
    }
}

impl<T: Default> Default for PerThread<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}
