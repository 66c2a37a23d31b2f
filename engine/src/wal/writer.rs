//! The end of the log: frames go out here, one aligned device write each, and nowhere else.
//!
//! A failed write poisons the writer: what is on disk behind the last good frame is unknown, so nothing is written
//! there again, neither the same bytes nor others (R3). Two pages at the end of each segment are never given to groups,
//! so that a mark, with a page of zeros behind it, and later a seal over those always fit.

use crate::codec::frame::{self, Frame, FrameKind, Identity, MAX_PAYLOAD_BYTES, framed_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io};
use crate::types::PAGE_BYTES;
use crate::wal::payload::Seal;
use crate::wal::segment::{FIRST_FRAME, Prepared, write_whole};

/// A mark and a seal, a page each.
const RESERVED_BYTES: u64 = 2 * PAGE_BYTES as u64;

/// The writer of one shard's log.
pub struct Writer<I: Io> {
    io: I,
    segment: Prepared<I>,
    position: u64,
    next_frame: u64,
    /// Every frame up to this one is on stable storage.
    durable: u64,
    /// The parts written so far are not a whole batch.
    within_batch: bool,
    /// What lies at `position` is torn: nothing but a seal may be written over it.
    torn: bool,
    poisoned: Option<Error>,
}

impl<I: Io> Writer<I> {
    /// A writer that goes on at `position` of `segment` with frame `next_frame`; every frame before that is durable.
    pub fn at(io: I, segment: Prepared<I>, position: u64, next_frame: u64) -> Self {
        assert!(
            next_frame > 0 && position >= FIRST_FRAME,
            "frames are numbered from 1 and lie behind the header"
        );
        assert!(
            position + PAGE_BYTES as u64 <= segment.header.bytes,
            "a seal must fit behind the last frame"
        );
        Self {
            io,
            segment,
            position,
            next_frame,
            durable: next_frame - 1,
            within_batch: false,
            torn: false,
            poisoned: None,
        }
    }

    /// A writer at a torn tail: the seal of [`Writer::switch`] must come before anything else (R8).
    pub fn at_torn_tail(io: I, segment: Prepared<I>, position: u64, next_frame: u64) -> Self {
        Self {
            torn: true,
            ..Self::at(io, segment, position, next_frame)
        }
    }

    /// A writer at the start of a segment.
    pub fn begin(io: I, segment: Prepared<I>, next_frame: u64) -> Self {
        Self::at(io, segment, FIRST_FRAME, next_frame)
    }

    /// The largest payload that still fits this segment as one frame; 0 when it is full.
    pub fn room(&self) -> usize {
        payload_room(self.segment.header.bytes, self.position)
    }

    /// The largest payload that fits an empty segment of this one's size as one frame.
    pub fn fresh_room(&self) -> usize {
        payload_room(self.segment.header.bytes, FIRST_FRAME)
    }

    /// The number of the frame that is written next.
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    /// The number of the segment in use.
    pub fn segment(&self) -> u64 {
        self.segment.header.number
    }

    /// Whether a torn tail has yet to be sealed off.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Whether a write has failed, so that what is on disk behind the last good frame is unknown.
    pub fn is_in_doubt(&self) -> bool {
        self.poisoned.is_some()
    }

    /// Whether groups may be written: no write has failed, and no torn tail lies here.
    pub fn is_sound(&self) -> bool {
        self.poisoned.is_none() && !self.torn
    }

    /// Writes one group as one frame and returns the bytes written. When this returns it is on stable storage.
    ///
    /// # Errors
    /// The write's own failure; `Poisoned` after one.
    ///
    /// # Panics
    /// If the payload exceeds [`Writer::room`].
    pub async fn write_group(&mut self, payload: &[u8]) -> Result<u64> {
        assert!(payload.len() <= self.room(), "the caller looks at the room first");
        assert!(!self.within_batch, "no group stands within a large batch");
        self.write_frame(FrameKind::Group, payload).await
    }

    /// Writes one part of a batch that is too large for a frame; `kind` is `First`, `Middle` or `Last`.
    ///
    /// # Errors
    /// As for [`Writer::write_group`].
    pub async fn write_part(&mut self, kind: FrameKind, part: &[u8]) -> Result<u64> {
        assert!(
            matches!(kind, FrameKind::First | FrameKind::Middle | FrameKind::Last),
            "parts have their own kinds"
        );
        assert!(part.len() <= self.room(), "the caller looks at the room first");
        self.within_batch = kind != FrameKind::Last;
        self.write_frame(kind, part).await
    }

    /// Seals this segment and goes on in `next`; `continues` says that a large batch is under way.
    ///
    /// # Errors
    /// As for [`Writer::write_group`].
    pub async fn switch(&mut self, next: Prepared<I>, continues: bool) -> Result<u64> {
        let seal = Seal {
            next_segment: next.header.number,
            next_salt: next.header.salt,
            continues,
        };
        let bytes = self.write_frame(FrameKind::Seal, &seal.encode()).await?;
        self.within_batch = continues;
        self.torn = false;
        let old = std::mem::replace(&mut self.segment, next);
        self.position = FIRST_FRAME;
        // Everything in it is durable; a failed close loses nothing but the descriptor.
        let _closed = old.file.close().await;
        Ok(bytes)
    }

    /// Says on disk that every frame is durable, so that damage to the last group can be told from a torn tail, and
    /// closes the file. A log left within a large batch gets no such mark: it would stand between the batch's parts. Nor
    /// does one whose torn tail was never sealed off: what is torn stays as it is for the next open.
    ///
    /// The page behind the mark is zeroed with it: in a recycled segment it may lie in the middle of an old frame, which the
    /// next open could not tell from a torn one (R6).
    ///
    /// # Errors
    /// As for [`Writer::write_group`]; every acknowledged frame is safe all the same.
    pub async fn close(mut self) -> Result<()> {
        let has_room = self.position + RESERVED_BYTES <= self.segment.header.bytes;
        if self.poisoned.is_none() && has_room && !self.within_batch && !self.torn {
            self.write_frame_and_zeros(FrameKind::Mark, &[], PAGE_BYTES)
                .await?;
        }
        let path = self.segment.path;
        self.segment
            .file
            .close()
            .await
            .map_err(|e| Error::io("closing a WAL segment", &path, None, &e))
    }

    async fn write_frame(&mut self, kind: FrameKind, payload: &[u8]) -> Result<u64> {
        self.write_frame_and_zeros(kind, payload, 0).await
    }

    /// Writes one frame, and in the same device write zeros behind it, where the next frame goes.
    async fn write_frame_and_zeros(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        zero_bytes: usize,
    ) -> Result<u64> {
        if let Some(error) = &self.poisoned {
            return Err(error.with_kind(ErrorKind::Poisoned));
        }
        assert!(
            !self.torn || kind == FrameKind::Seal,
            "a torn tail is sealed off before anything else is written"
        );
        let header = &self.segment.header;
        let identity = Identity {
            shard: header.owner.shard,
            salt: header.salt,
        };
        let frame_bytes = framed_bytes(payload.len());
        let mut buffer = self.io.alloc(frame_bytes + zero_bytes);
        let bytes = frame_bytes as u64;
        assert!(
            self.position + buffer.len() as u64 <= header.bytes,
            "a frame never crosses its segment's end"
        );
        let frame = Frame {
            kind,
            number: self.next_frame,
            durable: self.durable,
            payload,
        };
        let (framed, zeros) = buffer.split_at_mut(frame_bytes);
        frame::encode(framed, identity, self.position, frame);
        zeros.fill(0);
        // Until the write has completed the disk is in doubt; a caller that goes away in between leaves it so.
        self.poisoned = Some(in_doubt(&self.segment));
        let path = &self.segment.path;
        if let Err(error) =
            write_whole::<I>(&self.segment.file, path, buffer, self.position, "writing the WAL").await
        {
            // A full device cannot happen here by itself: every page of a segment was written before. Whatever it is,
            // the outcome is unknown.
            let error = error.with_kind(ErrorKind::Io);
            self.poisoned = Some(error.clone());
            return Err(error);
        }
        self.poisoned = None;
        self.position += bytes;
        self.durable = self.next_frame;
        self.next_frame += 1;
        Ok(bytes)
    }
}

fn in_doubt<I: Io>(segment: &Prepared<I>) -> Error {
    Error::located(
        ErrorKind::Io,
        "writing the WAL",
        &segment.path,
        None,
        "a write was given up before it completed",
    )
}

fn payload_room(segment_bytes: u64, position: u64) -> usize {
    let left = segment_bytes.saturating_sub(position + RESERVED_BYTES);
    let whole_pages = left - left % PAGE_BYTES as u64;
    let payload = usize::try_from(whole_pages)
        .unwrap_or(usize::MAX)
        .saturating_sub(frame::HEADER_BYTES);
    payload.min(MAX_PAYLOAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_always_leaves_two_pages() {
        let segment = 64 << 10;
        for page in 1..16_u64 {
            let position = page * PAGE_BYTES as u64;
            let room = payload_room(segment, position);
            if room > 0 {
                assert!(position + framed_bytes(room) as u64 + RESERVED_BYTES <= segment);
            }
        }
        assert_eq!(payload_room(segment, segment - RESERVED_BYTES), 0);
        assert_eq!(payload_room(64 << 20, FIRST_FRAME), MAX_PAYLOAD_BYTES);
    }
}
