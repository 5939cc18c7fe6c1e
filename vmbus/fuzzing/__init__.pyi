"""The names that __init__.py has, for type checkers."""

from .conformity import (
    CONFORMANCE_CHECKS as CONFORMANCE_CHECKS,
)
from .conformity import (
    DISAGREEMENT_SCHEMA as DISAGREEMENT_SCHEMA,
)
from .conformity import (
    TARGET_SCHEMA as TARGET_SCHEMA,
)
from .conformity import (
    Answer as Answer,
)
from .conformity import (
    BatchReader as BatchReader,
)
from .conformity import (
    Check as Check,
)
from .conformity import (
    Disagreement as Disagreement,
)
from .conformity import (
    DisagreementKind as DisagreementKind,
)
from .conformity import (
    Ending as Ending,
)
from .conformity import (
    Expected as Expected,
)
from .conformity import (
    Found as Found,
)
from .conformity import (
    Mismatch as Mismatch,
)
from .conformity import (
    NotConforming as NotConforming,
)
from .conformity import (
    Outcome as Outcome,
)
from .conformity import (
    PathReader as PathReader,
)
from .conformity import (
    ReaderImage as ReaderImage,
)
from .conformity import (
    ReaderProgram as ReaderProgram,
)
from .conformity import (
    ReaderReport as ReaderReport,
)
from .conformity import (
    Report as Report,
)
from .conformity import (
    StdinReader as StdinReader,
)
from .conformity import (
    check_channel as check_channel,
)
from .conformity import (
    check_ring_memory as check_ring_memory,
)
from .conformity import (
    check_ring_pair as check_ring_pair,
)
from .conformity import (
    check_signal as check_signal,
)
from .conformity import (
    expected_of as expected_of,
)
from .conformity import (
    reader_image as reader_image,
)
from .conformity import (
    reader_images as reader_images,
)
from .conformity import (
    save_found as save_found,
)
from .conformity import (
    try_reader as try_reader,
)
from .explorations import (
    MAXIMUM_STATES as MAXIMUM_STATES,
)
from .explorations import (
    MAXIMUM_STEPS as MAXIMUM_STEPS,
)
from .explorations import (
    QUEUE_FORMATS as QUEUE_FORMATS,
)
from .explorations import (
    ExploredGuestMemory as ExploredGuestMemory,
)
from .explorations import (
    ExploredMemory as ExploredMemory,
)
from .explorations import (
    ExploredSignal as ExploredSignal,
)
from .explorations import (
    QueueSide as QueueSide,
)
from .explorations import (
    Result as Result,
)
from .explorations import (
    RingSide as RingSide,
)
from .explorations import (
    Script as Script,
)
from .explorations import (
    Side as Side,
)
from .explorations import (
    Violation as Violation,
)
from .explorations import (
    ViolationKind as ViolationKind,
)
from .explorations import (
    Wish as Wish,
)
from .explorations import (
    Word as Word,
)
from .explorations import (
    WrongMessage as WrongMessage,
)
from .explorations import (
    WrongRequest as WrongRequest,
)
from .explorations import (
    channel_sides as channel_sides,
)
from .explorations import (
    explore as explore,
)
from .explorations import (
    explore_queue as explore_queue,
)
from .explorations import (
    explore_sides as explore_sides,
)
from .explorations import (
    queue_sides as queue_sides,
)
from .explorations import (
    ring_sides as ring_sides,
)
from .explorations import (
    stopped_clock as stopped_clock,
)
from .hostility import (
    Access as Access,
)
from .hostility import (
    HostilePeer as HostilePeer,
)
from .hostility import (
    HostileQueuePeer as HostileQueuePeer,
)
from .hostility import (
    SlowGuestMemory as SlowGuestMemory,
)
from .hostility import (
    SlowMemory as SlowMemory,
)
from .hostility import (
    Strike as Strike,
)
from .hostility import (
    descriptor_bytes as descriptor_bytes,
)
from .hostility import (
    random_plan as random_plan,
)
from .machinery import (
    Failure as Failure,
)
from .machinery import (
    RunResult as RunResult,
)
from .machinery import (
    TrialMachine as TrialMachine,
)
from .machinery import (
    failure_of as failure_of,
)
from .machinery import (
    fuzz as fuzz,
)
from .machinery import (
    fuzz_round as fuzz_round,
)
from .machinery import (
    machine_of as machine_of,
)
from .machinery import (
    minimized as minimized,
)
from .rings import (
    BREAKS as BREAKS,
)
from .rings import (
    Broken as Broken,
)
from .rings import (
    PacketImage as PacketImage,
)
from .rings import (
    RawRange as RawRange,
)
from .rings import (
    RingBreak as RingBreak,
)
from .rings import (
    RingImage as RingImage,
)
from .rings import (
    checked_channels as checked_channels,
)
from .rings import (
    checked_ring_pair as checked_ring_pair,
)
from .trials import (
    CASE_SCHEMA as CASE_SCHEMA,
)
from .trials import (
    IMAGES_FOLDER as IMAGES_FOLDER,
)
from .trials import (
    Argument as Argument,
)
from .trials import (
    ByteChannelTrial as ByteChannelTrial,
)
from .trials import (
    BytePipeTrial as BytePipeTrial,
)
from .trials import (
    Bytes as Bytes,
)
from .trials import (
    ByteSource as ByteSource,
)
from .trials import (
    Case as Case,
)
from .trials import (
    ChannelTrial as ChannelTrial,
)
from .trials import (
    Choice as Choice,
)
from .trials import (
    Entry as Entry,
)
from .trials import (
    Flag as Flag,
)
from .trials import (
    HostileChannelTrial as HostileChannelTrial,
)
from .trials import (
    HostileQueueTrial as HostileQueueTrial,
)
from .trials import (
    HostileRingTrial as HostileRingTrial,
)
from .trials import (
    ImageTrial as ImageTrial,
)
from .trials import (
    Kept as Kept,
)
from .trials import (
    Listing as Listing,
)
from .trials import (
    MessagePipeTrial as MessagePipeTrial,
)
from .trials import (
    Number as Number,
)
from .trials import (
    Operation as Operation,
)
from .trials import (
    PackedQueueTrial as PackedQueueTrial,
)
from .trials import (
    Rest as Rest,
)
from .trials import (
    RingTrial as RingTrial,
)
from .trials import (
    SplitQueueTrial as SplitQueueTrial,
)
from .trials import (
    Step as Step,
)
from .trials import (
    Trial as Trial,
)
from .trials import (
    Wrong as Wrong,
)
from .trials import (
    corpus_of as corpus_of,
)
from .trials import (
    crash_path as crash_path,
)
from .trials import (
    dictionary as dictionary,
)
from .trials import (
    file_name as file_name,
)
from .trials import (
    fuzz_one as fuzz_one,
)
from .trials import (
    operation as operation,
)
from .trials import (
    pattern as pattern,
)
from .trials import (
    random_case as random_case,
)
from .trials import (
    target_named as target_named,
)
from .trials import (
    targets as targets,
)
from .trials import (
    write_corpus as write_corpus,
)
from .trials import (
    write_images as write_images,
)
