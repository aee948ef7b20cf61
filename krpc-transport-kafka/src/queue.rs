//! librdkafka's queues: the one file with `unsafe`.
//!
//! The safe crate has no batch call, no forwarding of a partition's queue to a queue of ours, no
//! wake-up for a producer's queue, and no bounded commit that tells each partition's fate. All of
//! it is a handful of C calls, wrapped here so that nothing of C leaves this file.
//!
//! # Private queues
//! A consumer's own queue carries records *and* rebalances, and whoever polls it must keep polling.
//! So each partition's queue is forwarded to a private one **before** it is assigned:
//! `rd_kafka_toppar_op_fetch_start` leaves a queue alone that the application has forwarded
//! (`RD_KAFKA_Q_F_FWD_APP`). `rd_kafka_toppar_fetch_stop` takes the forwarding away but not that
//! mark, so it must be set again for each assignment. Records fetched under an earlier assignment
//! are dropped by `rd_kafka_consume_batch_queue` itself: it compares their version.
#![expect(unsafe_code, reason = "librdkafka's queue calls are not in the safe crate")]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    fmt, ptr, slice,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList,
    bindings::{self as sys, rd_kafka_timestamp_type_t as TimestampType},
    client::{Client, ClientContext, OAuthToken},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use crate::wait::Signal;

/// Gives a client the token with which it shows brokers who it is. For a client whose main queue
/// nobody polls, where librdkafka would ask for one.
pub(crate) fn set_token<C: ClientContext>(
    client: &Client<C>,
    token: &OAuthToken,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (secret, principal) = (text(&token.token)?, text(&token.principal_name)?);
    let mut reason: [c_char; 256] = [0; 256];
    // SAFETY: the client, both texts and the buffer, whose length is given, live through the call,
    // which copies; there are no extensions, so none are read. It locks what it changes.
    let code = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            secret.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka ends the text in the buffer with a zero; at first all of it is zero.
    Err(unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned())
}

/// Records taken from a queue by one call: enough to spread the cost of the call, few enough that
/// the next question for back-pressure comes soon. Each may hold a packet of 4 MiB, so this many
/// bring at most 128 MiB, or 131,072 calls, beyond what the driver wanted.
pub(crate) const BATCH: usize = 32;

/// A queue of a client, with a signal that is told whenever it stops being empty.
pub(crate) struct Queue {
    raw: *mut sys::rd_kafka_queue_t,
    signal: Arc<Signal>,
    // After the destructor has given the queue back: librdkafka wants all queues of a client
    // gone before the client.
    _owner: Arc<dyn Send + Sync>,
}

// SAFETY: librdkafka's queues lock themselves; every call here may be made from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A consumer's own queue: its events, and the records of what is not forwarded elsewhere.
    pub(crate) fn of_consumer<C, O>(client: &Client<C>, owner: Arc<O>, signal: Arc<Signal>) -> Self
    where
        C: ClientContext,
        O: Send + Sync + 'static,
    {
        // SAFETY: the client is alive, as it is borrowed. The call adds a reference, returned by
        // the destructor. Null for a client that is no group consumer: `wrap` checks.
        Self::wrap(unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) }, owner, signal)
    }

    /// A client's main queue: delivery reports, errors, logs, statistics.
    pub(crate) fn of_client<C, O>(client: &Client<C>, owner: Arc<O>, signal: Arc<Signal>) -> Self
    where
        C: ClientContext,
        O: Send + Sync + 'static,
    {
        // SAFETY: as for `of_consumer`.
        Self::wrap(unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) }, owner, signal)
    }

    /// An empty queue, to which partitions are forwarded.
    pub(crate) fn private<C, O>(client: &Client<C>, owner: Arc<O>, signal: Arc<Signal>) -> Self
    where
        C: ClientContext,
        O: Send + Sync + 'static,
    {
        // SAFETY: as for `of_consumer`.
        Self::wrap(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) }, owner, signal)
    }

    fn wrap(
        raw: *mut sys::rd_kafka_queue_t,
        owner: Arc<dyn Send + Sync>,
        signal: Arc<Signal>,
    ) -> Self {
        assert!(!raw.is_null(), "asked for the consumer queue of a client that is no consumer");
        let opaque = Arc::as_ptr(&signal).cast_mut().cast::<c_void>();
        // SAFETY: `raw` is a queue we hold a reference to. The opaque points into the `Arc` kept
        // in `self.signal`; the destructor takes the callback away before that is dropped.
        unsafe { sys::rd_kafka_queue_cb_event_enable(raw, Some(raise), opaque) };
        Self { raw, signal, _owner: owner }
    }

    /// What is told when the queue stops being empty; the one reader waits on it.
    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// How many operations are queued. The signal comes only with the first after none, so a
    /// reader must go on until this is 0.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: `raw` is valid until the destructor.
        unsafe { sys::rd_kafka_queue_length(self.raw) }
    }

    /// Sends the records of a partition here from its next assignment on. False if there can be
    /// no such topic.
    pub(crate) fn receive<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // SAFETY: the client and the name live through the call; the call adds a reference.
        let source = unsafe {
            sys::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition)
        };
        if source.is_null() {
            return false;
        }
        // SAFETY: both queues are valid; forwarding keeps a reference of its own to ours, and the
        // reference to the source is given back once.
        unsafe {
            sys::rd_kafka_queue_forward(source, self.raw);
            sys::rd_kafka_queue_destroy(source);
        }
        true
    }

    /// Passes at most `most` queued records, and no more than [`BATCH`], to `each`, without
    /// waiting; returns how many.
    pub(crate) fn take(&self, most: usize, mut each: impl FnMut(Taken<'_>)) -> usize {
        let mut messages = [ptr::null_mut(); BATCH];
        // A timeout would be waited out whole unless the array is filled: hence none.
        // SAFETY: `raw` is valid and the array has room for `BATCH` pointers.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(self.raw, 0, messages.as_mut_ptr(), most.min(BATCH))
        };
        let count = usize::try_from(count).unwrap_or(0);
        for &message in &messages[..count] {
            // SAFETY: librdkafka filled the first `count` entries with messages that are ours
            // until they are destroyed, which `Taken` does not outlive.
            each(unsafe { Taken::read(&*message) });
            // SAFETY: destroyed once, after its last use.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        count
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the callback is taken away under the queue's lock, under which it is also
        // called; so it cannot run afterwards. Then our one reference is returned.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.raw, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.raw);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Called by librdkafka's threads, under the queue's lock: must neither block nor panic.
unsafe extern "C" fn raise(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the opaque is the `Signal` given to `rd_kafka_queue_cb_event_enable`, alive as long
    // as this callback is installed.
    unsafe { &*opaque.cast::<Signal>() }.queued();
}

/// One entry of a batch: a record, or an error in a record's place.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    /// The topic's name.
    pub(crate) topic: &'a [u8],
    /// The partition.
    pub(crate) partition: i32,
    /// The record's offset.
    pub(crate) offset: i64,
    /// The record's value, empty if null; of an error, its text.
    pub(crate) payload: &'a [u8],
    /// When the broker appended it, in milliseconds; `None` if the topic keeps the sender's time.
    pub(crate) appended: Option<i64>,
    /// An error that librdkafka reports in place of a record.
    pub(crate) error: Option<RDKafkaErrorCode>,
}

impl<'a> Taken<'a> {
    /// # Safety
    /// The message came from a consume call and is not destroyed within `'a`.
    unsafe fn read(message: &'a sys::rd_kafka_message_t) -> Self {
        let mut kind = TimestampType::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: by the caller's word the message is valid; the name lives as long as its topic,
        // to which the message holds a reference; payload and length belong together.
        let (topic, millis, payload) = unsafe {
            let topic = match message.rkt.is_null() {
                true => &[],
                false => CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)).to_bytes(),
            };
            let millis = sys::rd_kafka_message_timestamp(message, &mut kind);
            (topic, millis, bytes(message.payload, message.len))
        };
        let appended = kind == TimestampType::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
        Self {
            topic,
            partition: message.partition,
            offset: message.offset,
            payload,
            appended: (appended && millis >= 0).then_some(millis),
            // SAFETY: the field is an `i32` in C, whatever the number.
            error: unsafe { error_code(&raw const message.err) },
        }
    }
}

/// What a list says about one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The partition.
    pub(crate) partition: i32,
    /// The offset; negative if there is none.
    pub(crate) offset: i64,
    /// The metadata; what is no UTF-8 is replaced.
    pub(crate) metadata: String,
    /// What was wrong with this partition.
    pub(crate) error: Option<RDKafkaErrorCode>,
}

/// The entries of a list. The safe crate's own view panics at metadata that is no text.
pub(crate) fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    // SAFETY: the list is alive, as it is borrowed.
    unsafe { read_entries(list.ptr()) }
}

/// Commits a list, waiting at most `timeout`.
///
/// # Errors
/// There was no answer in time, or not all of the list was committed: librdkafka gives one
/// partition's error to every entry that has none of its own, so which one it was is lost.
pub(crate) fn commit<C: ClientContext>(
    client: &Client<C>,
    list: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client outlives the call, the queue is destroyed below, and the list is copied
    // by librdkafka. Without a callback the answer comes to the queue as an event; an answer that
    // comes after the queue is destroyed is dropped by librdkafka.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let refused = sys::rd_kafka_commit_queue(
            client.native_ptr(),
            list.ptr(),
            queue,
            None,
            ptr::null_mut(),
        );
        let result = match RDKafkaErrorCode::from(refused) {
            RDKafkaErrorCode::NoError => answer(sys::rd_kafka_queue_poll(queue, millis)),
            refused => Err(refused),
        };
        sys::rd_kafka_queue_destroy(queue);
        result
    }
}

/// Whether a consumer is a member of its group, as far as librdkafka knows: the coordinator has
/// taken it in, and has neither put it out nor been asked to let it go.
pub(crate) fn is_member<C: ClientContext>(client: &Client<C>) -> bool {
    // SAFETY: the client outlives the call. What it yields is null or ours; it is destroyed once,
    // after its last use, and the name lives until then.
    unsafe {
        let state = sys::rd_kafka_consumer_group_metadata(client.native_ptr());
        if state.is_null() {
            return false;
        }
        // The classic protocol takes the name away, the new one the generation.
        let name = sys::rd_kafka_consumer_group_metadata_member_id(state);
        let named = !name.is_null() && !CStr::from_ptr(name).is_empty();
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(state);
        sys::rd_kafka_consumer_group_metadata_destroy(state);
        named && generation > 0
    }
}

/// Reads and destroys the answer to a commit; null if it did not come in time.
///
/// # Safety
/// The event is null or came from `rd_kafka_queue_poll` and is used by nobody else.
unsafe fn answer(event: *mut sys::rd_kafka_event_t) -> Result<(), RDKafkaErrorCode> {
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: the event is valid, and destroyed once, after its last use.
    let error = unsafe {
        let error = sys::rd_kafka_event_error(event);
        sys::rd_kafka_event_destroy(event);
        error
    };
    match RDKafkaErrorCode::from(error) {
        RDKafkaErrorCode::NoError => Ok(()),
        error => Err(error),
    }
}

/// # Safety
/// The list is null or valid through the call.
unsafe fn read_entries(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a valid list has `cnt` elements at `elems`; each has its metadata's length beside
    // the pointer. Elements are read by field, as `err` may be a number unknown to the bindings.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count)
            .map(|index| {
                let element = (*list).elems.add(index);
                let metadata = bytes((*element).metadata, (*element).metadata_size);
                Entry {
                    partition: (*element).partition,
                    offset: (*element).offset,
                    metadata: String::from_utf8_lossy(metadata).into_owned(),
                    error: error_code(&raw const (*element).err),
                }
            })
            .collect()
    }
}

/// The bytes at a pointer of C; empty if null.
///
/// # Safety
/// Unless null, `length` bytes are readable there for `'a`.
unsafe fn bytes<'a>(data: *const c_void, length: usize) -> &'a [u8] {
    match data.is_null() {
        true => &[],
        // SAFETY: by the caller's word.
        false => unsafe { slice::from_raw_parts(data.cast::<c_char>().cast::<u8>(), length) },
    }
}

/// The error at a pointer, `None` for success. Brokers newer than the bindings send numbers that
/// are no value of the enum; so it is read as what it is in C.
///
/// # Safety
/// The pointer is valid for reading an `i32`.
unsafe fn error_code(error: *const RDKafkaRespErr) -> Option<RDKafkaErrorCode> {
    // SAFETY: by the caller's word; the enum is an `i32`.
    let number = unsafe { error.cast::<i32>().read() };
    match RDKafkaRespErr::try_from(number) {
        Ok(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR) => None,
        Ok(error) => Some(error.into()),
        Err(_) => Some(RDKafkaErrorCode::Unknown),
    }
}
