//! Work on the pieces of a file with all cores: one thread reads, one for each core works, and the caller's
//! takes the results in the order of the pieces.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Failure;

/// Pieces that wait on each side of a core.
const WAITING: usize = 2;

/// Hands what `next` reads to `work`, which has a memory of its own on each core, and what comes of it to
/// `take`. Pieces go round the cores, so that they come back in their order.
///
/// # Errors
///
/// The first of any of the three. What was read before `next` failed is taken.
pub(super) fn in_order<Piece: Send, Done: Send, Memory: Default>(
    next: impl FnMut() -> Result<Option<Piece>, Failure> + Send,
    work: impl Fn(&mut Memory, Piece) -> Result<Done, Failure> + Sync,
    mut take: impl FnMut(Done) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let (mut lanes, mut ways_out, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..cores {
            let (piece_in, piece_out) = sync_channel(WAITING);
            let (done_in, done_out) = sync_channel(WAITING);
            lanes.push(piece_in);
            ways_out.push(done_out);
            let work = &work;
            threads.push(scope.spawn(move || work_on(work, piece_out, done_in)));
        }
        let reader = scope.spawn(move || read(next, lanes));
        for way_out in ways_out.iter().cycle() {
            let Ok(done) = way_out.recv() else { break };
            take(done?)?;
        }
        // Nobody waits any more to hand over what nobody takes.
        drop(ways_out);
        let crashed = |_| Failure::new("the work on the file failed: please report this");
        reader.join().map_err(crashed)??;
        threads.into_iter().try_for_each(|thread| thread.join().map_err(crashed))
    })
}

fn read<Piece>(
    mut next: impl FnMut() -> Result<Option<Piece>, Failure>,
    lanes: Vec<SyncSender<Piece>>,
) -> Result<(), Failure> {
    for lane in lanes.iter().cycle() {
        let Some(piece) = next()? else { break };
        if lane.send(piece).is_err() {
            // Taking has failed, and says so.
            break;
        }
    }
    Ok(())
}

fn work_on<Piece, Done, Memory: Default>(
    work: &impl Fn(&mut Memory, Piece) -> Result<Done, Failure>,
    pieces: Receiver<Piece>,
    results: SyncSender<Result<Done, Failure>>,
) {
    let mut memory = Memory::default();
    for piece in pieces {
        if results.send(work(&mut memory, piece)).is_err() {
            break;
        }
    }
}
