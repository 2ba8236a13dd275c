"""Jobs and their blocks: opened, asked for, cancelled, closed."""

from __future__ import annotations

from shares.board import recounts, rows
from shares.board.effects import BlockCleared, BlockDropped, BlockWanted, JobClosed
from shares.board.events import BlockOpened, JobCancelled, JobOpened
from shares.board.state import Block, Customer, Job, Queue, State
from shares.policy import PPM

_BACKLOG_DEPTH = 2  # a customer's jobs of one kind are served in turn: enough to look at the first


def opened(state: State, event: JobOpened) -> None:
    """A job may be worked on: ask for its first blocks."""
    if event.job in state.jobs:
        raise ValueError(f"job {event.job} is open already: open each job once")
    if event.blocks < 1 or event.rows < 1 or event.price < 1:
        raise ValueError(f"job {event.job} needs blocks, rows and price of at least 1")
    add(
        state,
        job=event.job,
        account=event.account,
        model=event.model,
        operation=event.operation,
        direct=event.direct,
        blocks=event.blocks,
        rows=event.rows,
        work=event.work,
        price=event.price,
        row_bytes=event.row_bytes,
        check_left=event.check_budget,
        check_budget=event.check_budget,
        created=event.at,
        assurance_ppm=event.assurance_ppm,
        trusted=event.trusted,
        exact=event.exact,
    )


def add(
    state: State,
    *,
    job: int,
    account: str,
    model: str,
    operation: str,
    direct: bool,
    blocks: int,
    rows: int,
    work: int,
    price: int,
    row_bytes: int,
    check_left: int,
    check_budget: int,
    created: float,
    assurance_ppm: int = 0,
    trusted: bool = False,
    exact: bool = True,
) -> Job:
    """Put a job on the board, none of its blocks open."""
    key = (direct, model, operation)
    queue = state.queues.get(key)
    if queue is None:
        queue = state.queues[key] = Queue(direct, model, operation)
    customer = state.customers.get(account)
    if customer is None:
        customer = state.customers[account] = Customer(account)
    if not customer.jobs:
        others = [other.served for other in state.customers.values() if other.jobs]
        customer.served = max(customer.served, min(others, default=customer.served))
    customer.jobs += 1
    # What assurance bought is for rigs that check: the referee's runs share the ordinary levy only.
    levy = max(0, check_budget - -(-work * price * assurance_ppm // PPM))
    found = state.jobs[job] = Job(
        job=job,
        account=account,
        model=model,
        operation=operation,
        direct=direct,
        blocks=blocks,
        rows=rows,
        work=work,
        price=price,
        row_bytes=row_bytes,
        check_left=check_left,
        check_keep=check_budget - levy * state.policy.referee_cap_ppm // PPM,
        assurance_ppm=assurance_ppm,
        trusted=trusted,
        exact=exact,
        order=(created, job),
        queue=queue,
        customer=customer,
        open_work=work,
        unopened_work=work,
    )
    queue.backlog.setdefault(account, {})[job] = found
    running_short(state, found)
    return found


def block_opened(state: State, event: BlockOpened) -> None:
    """A block's rows are here."""
    job = state.jobs.get(event.job)
    if job is None or job.cancelled or event.block not in job.wanted:
        if job is not None:
            job.wanted.pop(event.block, None)
        if job is None or event.block not in job.opened:
            state.emit(BlockDropped(event.job, event.block))
        return
    if len(event.lengths) != len(event.works) or not len(event.lengths):
        raise ValueError(f"block {event.block} of job {event.job} needs a length and work a row")
    del job.wanted[event.block]
    add_block(job, Block(event.job, event.block, event.lengths, event.works))
    state.work_came = True
    running_short(state, job)


def add_block(job: Job, block: Block) -> None:
    """Put a block on the board, all of its rows open."""
    job.opened[block.no] = block
    job.unopened_work -= block.open_work
    job.open_rows += block.open_rows
    rows.set_ready(job)


def running_short(state: State, job: Job) -> None:
    """Look at the end of this turn whether the job's customer needs more blocks opened."""
    queue = job.queue
    state.short[queue.direct, queue.model, queue.operation, job.account] = None


def want_blocks(state: State) -> None:
    """Ask for blocks where open work would run out."""
    for direct, model, operation, account in state.short:
        queue = state.queues[direct, model, operation]
        backlog = queue.backlog.get(account)
        if not backlog:
            continue
        ahead = state.rate_of(model) * state.policy.window_seconds * 2
        for job in list(backlog.values())[: None if direct else _BACKLOG_DEPTH]:
            _want(state, job, ahead)
            if job.next_block >= job.blocks:
                del backlog[job.job]
        if not backlog:
            del queue.backlog[account]
    state.short.clear()


def want_everywhere(state: State) -> None:
    """Look at every customer with blocks to ask for (at each tick: rigs come and speed up)."""
    for (direct, model, operation), queue in state.queues.items():
        for account in queue.backlog:
            state.short[direct, model, operation, account] = None


def _want(state: State, job: Job, ahead: float) -> None:
    policy = state.policy
    held = [block for block in job.opened.values() if block.open_rows]
    count, work = len(held), sum(block.open_work for block in held)
    typical = job.work // job.blocks
    count += len(job.wanted)
    work += typical * len(job.wanted)
    while job.next_block < job.blocks and count < policy.max_open_blocks:
        number = job.next_block
        if number not in job.cleared and number not in job.opened:
            if count >= policy.open_blocks and work >= ahead:
                return
            job.wanted[number] = None
            state.emit(BlockWanted(job.job, number))
            count += 1
            work += typical
        job.next_block += 1


def cancelled(state: State, event: JobCancelled) -> None:
    """Lease no more of it; what is in flight within its deadline is still taken and paid."""
    job = state.jobs.get(event.job)
    if job is None or job.cancelled:
        return
    cancel(job, event.reason)
    state.unsettled[job.job] = job


def cancel(job: Job, reason: str) -> None:
    """See ``cancelled``."""
    job.cancelled = reason
    job.next_block = job.blocks
    mine = job.queue.backlog.get(job.account)
    if mine is not None and mine.pop(job.job, None) is not None and not mine:
        del job.queue.backlog[job.account]
    rows.set_ready(job)


def settle(state: State, job: Job) -> None:
    """Drop the blocks that are over; close the job when it is."""
    for block in [b for b in job.opened.values() if b.cleared_rows == b.rows]:
        if not block.contested:
            job.cleared.add(block.no)
            state.emit(BlockCleared(job.job, block.no))
            _drop(state, job, block)
    if len(job.cleared) == job.blocks:
        _close(state, job, "completed")
    elif job.cancelled and not job.shares and not any(b.contested for b in job.opened.values()):
        _close(state, job, job.cancelled)


def _drop(state: State, job: Job, block: Block) -> None:
    """Forget a block: nothing that is judged depends on it any more."""
    rows.let_go(job, block)
    del job.opened[block.no]
    for case in block.cases.values():
        for recount, _ in case.recounts.values():
            recount.waiting.pop(case.key, None)
            recounts.end_if_done(state, recount)
    for urgent in (True, False):
        state.referee.pop((job.job, block.no, urgent), None)
    state.emit(BlockDropped(job.job, block.no))


def _close(state: State, job: Job, how: str) -> None:
    for block in list(job.opened.values()):
        _drop(state, job, block)
    cancel(job, how)
    del state.jobs[job.job]
    job.customer.jobs -= 1
    if not job.customer.jobs:
        _forget_idle_customers(state)
    state.emit(JobClosed(job.job, how, state.at))


def _forget_idle_customers(state: State) -> None:
    """Keep at most a few customers without jobs: their turn starts at the present minimum."""
    idle = [customer for customer in state.customers.values() if not customer.jobs]
    for customer in idle[: max(0, len(idle) - 1000)]:
        del state.customers[customer.account]
