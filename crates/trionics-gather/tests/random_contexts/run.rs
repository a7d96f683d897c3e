//! Runs programs with the library, and writes down what happens.

use std::{future::Future, pin::Pin, sync::Mutex};

use futures::FutureExt as _;
use trionics_gather::{
    AsyncContext as _, BoxContext, ExitStack, GatherOptions, Slot, acm, open_exit_stack, try_join,
    try_race,
};
use trionics_nursery::{Failure, Nursery, open_nursery};

use super::{
    check::Event,
    common::{never, pause},
    program::{Block, Context, End, InUse, Make, Part},
};

type Outcome<T> = Result<T, Failure<u32>>;
type BoxRun<'a, T> = Pin<Box<dyn Future<Output = Outcome<T>> + Send + 'a>>;

#[derive(Default)]
pub(crate) struct World {
    log: Mutex<Vec<Event>>,
}

impl World {
    fn add(&self, event: Event) {
        self.log.lock().unwrap().push(event);
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Ends as the part says, with an event for what is not well.
    async fn part(&self, id: u32, part: Part) -> Outcome<()> {
        for _ in 0..part.awaits {
            pause().await;
        }
        match part.end {
            End::Well => Ok(()),
            End::Fails => {
                self.add(Event::Failed(id));
                Err(id.into())
            }
            End::Panics => {
                self.add(Event::Panicked(id));
                panic!("{id}");
            }
            End::Hangs => {
                self.add(Event::Hung);
                never().await;
                unreachable!()
            }
        }
    }
}

async fn life(world: &World, context: Context, slot: Slot<u32>) -> Outcome<()> {
    let Context {
        id, set_up, exit, ..
    } = context;
    world.part(id, set_up).await?;
    world.add(Event::Entered(id));
    match context.in_use {
        InUse::Waits => {
            slot.provide(id).await;
        }
        InUse::Dies(part) => {
            let mut provide = Box::pin(slot.provide(id));
            let mut n_left = part.awaits;
            // Not in a frame of its own.
            while (&mut provide).now_or_never().is_none() {
                if n_left == 0 {
                    world.add(Event::Died(id, part.end == End::Well));
                    let end = Part { awaits: 0, ..part };
                    return world.part(1_000 + id, end).await;
                }
                n_left -= 1;
                pause().await;
            }
        }
    }
    world.add(Event::ExitBegins(id));
    let result = leave(world, id, exit).await;
    world.add(Event::ExitEnds(id));
    result
}

/// The exit; a panic is an end, too.
async fn leave(world: &World, id: u32, exit: Part) -> Outcome<()> {
    if exit.end == End::Panics {
        for _ in 0..exit.awaits {
            pause().await;
        }
        world.add(Event::ExitEnds(id));
        return world.part(2_000 + id, Part { awaits: 0, ..exit }).await;
    }
    world.part(2_000 + id, exit).await
}

fn context<'a>(world: &'a World, context: &Context) -> BoxContext<'a, u32, u32> {
    let context = *context;
    let plain = acm(move |slot| life(world, context, slot));
    match context.make {
        Make::Plain => plain.boxed(),
        Make::Mapped => plain.map(|id| id + 1).map(|id| id - 1).boxed(),
        Make::Boxed => plain.boxed().boxed().map(|id| id).boxed(),
        Make::WithNursery => acm(async move |slot: Slot<u32>| {
            open_nursery(async move |n: Nursery<'_, u32>| {
                n.start_soon(async move {
                    for _ in 0..context.exit.awaits {
                        pause().await;
                    }
                    Ok(())
                });
                life(world, context, slot).await
            })
            .await
        })
        .boxed(),
    }
}

/// Runs a block; gives the sum of the identities of its contexts and leaves.
pub(crate) fn run_block<'a>(world: &'a World, block: &'a Block) -> BoxRun<'a, u32> {
    match block {
        Block::Leaf { id, part } => Box::pin(async move {
            world.part(*id, *part).await?;
            Ok(*id)
        }),
        Block::Set {
            contexts,
            limit,
            body,
        } => Box::pin(async move {
            let set: Vec<_> = contexts.iter().map(|made| context(world, made)).collect();
            let mut options = GatherOptions::new();
            if let Some(limit) = limit {
                options = options.limit(*limit);
            }
            options
                .gather(set, async |ids: Vec<u32>| {
                    world.add(Event::BodyBegins(contexts[0].id));
                    Ok(ids.iter().sum::<u32>() + run_block(world, body).await?)
                })
                .await
        }),
        Block::Stack { contexts, body } => {
            Box::pin(open_exit_stack(async move |stack: ExitStack<'_, u32>| {
                let mut sum = 0;
                for (index, made) in contexts.iter().enumerate() {
                    if index % 2 == 1 {
                        // By the way of a stack of its own.
                        sum += open_exit_stack(async |own: ExitStack<'_, u32>| {
                            let id = own.enter(context(world, made)).await?;
                            own.pop_all(&stack);
                            Ok(id)
                        })
                        .await?;
                    } else {
                        sum += stack.enter(context(world, made)).await?;
                    }
                }
                world.add(Event::BodyBegins(contexts[0].id));
                Ok(sum + run_block(world, body).await?)
            }))
        }
        Block::Race(blocks) => Box::pin(async move {
            let blocks: Vec<_> = blocks.iter().map(|block| run_block(world, block)).collect();
            try_race(blocks).await
        }),
        Block::Join(blocks) => Box::pin(async move {
            let blocks: Vec<_> = blocks.iter().map(|block| run_block(world, block)).collect();
            Ok(try_join(blocks).await?.into_iter().sum())
        }),
    }
}
