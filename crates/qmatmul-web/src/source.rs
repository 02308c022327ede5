//! Bytes of a file that is not read as a whole: a `Blob`'s slices, and HTTP ranges.

use crate::errors::words;
use bytes::Bytes;
use js_sys::{ArrayBuffer, Promise, Uint8Array};
use qmatmul::file::{ByteRanges, RangeFuture};
use send_wrapper::SendWrapper;
use std::io;
use std::ops::Range;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, RequestInit, Response};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(url: &str, init: &RequestInit) -> Promise;
}

/// A file that the user has chosen.
pub struct BlobRanges(SendWrapper<Blob>);

impl BlobRanges {
    pub fn new(blob: Blob) -> Self {
        Self(SendWrapper::new(blob))
    }
}

impl ByteRanges for BlobRanges {
    fn len(&self) -> u64 {
        self.0.size() as u64
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        let blob = &self.0;
        Box::pin(async move {
            let room = room(&range)?;
            let part = blob.slice_with_f64_and_f64(range.start as f64, range.end as f64);
            let part = part.map_err(|e| other(words(&e)))?;
            content(part.array_buffer(), room).await
        })
    }
}

/// A file of a server that sends parts of it.
pub struct UrlRanges {
    url: String,
    len: u64,
}

impl UrlRanges {
    /// Asks the server for the size of the file.
    ///
    /// # Errors
    /// What is wrong with the address, the server or its answer, and what to do.
    pub async fn open(url: &str) -> io::Result<Self> {
        let response = get(url, 0..1).await?;
        let total = response.headers().get("Content-Range").ok().flatten();
        let total = total.as_deref().and_then(|text| text.rsplit_once('/')?.1.parse().ok());
        match total {
            Some(len) => Ok(Self { url: url.into(), len }),
            None => Err(other(
                "the server does not say how large the file is (no `Content-Range`, or none that other pages \
                 may read): download the file and open it here"
                    .into(),
            )),
        }
    }
}

impl ByteRanges for UrlRanges {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        Box::pin(async move {
            let room = room(&range)?;
            let response = get(&self.url, range).await?;
            content(response.array_buffer().map_err(|e| other(words(&e)))?, room).await
        })
    }
}

/// The answer to a request for a range, which is not empty.
async fn get(url: &str, range: Range<u64>) -> io::Result<Response> {
    let headers = web_sys::Headers::new().map_err(|e| other(words(&e)))?;
    let bytes = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    headers.set("Range", &bytes).map_err(|e| other(words(&e)))?;
    let init = RequestInit::new();
    init.set_headers(&headers);
    let response: Response =
        JsFuture::from(fetch(url, &init)).await.map_err(|e| unreachable(&words(&e)))?.into();
    match response.status() {
        206 => Ok(response),
        status => {
            if let Some(body) = response.body() {
                let _ = body.cancel();
            }
            Err(other(match status {
                200 => "the server sends the whole file where a part was asked for: download the file and open it here".into(),
                416 => format!("the server has no bytes {range:?} of it: the file is empty, or has changed"),
                _ => format!("the server answers with {status} {}", response.status_text()),
            }))
        }
    }
}

fn unreachable(why: &str) -> io::Error {
    other(format!(
        "no answer that this page may read ({why}): the address is wrong, the server is down, or it does not \
         let other pages read the file (CORS)"
    ))
}

/// Room for the bytes of a range, taken before they are fetched: where there is none, the program
/// would end.
///
/// # Errors
/// If this page's memory has none: it is 4 GiB at most, and one piece half of that.
fn room(range: &Range<u64>) -> io::Result<Vec<u8>> {
    let bytes = range.end - range.start;
    let mut room = Vec::new();
    let taken = usize::try_from(bytes).is_ok_and(|bytes| room.try_reserve_exact(bytes).is_ok());
    let none = || other(format!("{bytes} bytes are more than the memory of a page has room for"));
    taken.then_some(room).ok_or_else(none)
}

/// What a promise of a buffer gives, in `room`.
async fn content(buffer: Promise, mut room: Vec<u8>) -> io::Result<Bytes> {
    let buffer = JsFuture::from(buffer).await.map_err(|e| other(words(&e)))?;
    let bytes = Uint8Array::new(&buffer.unchecked_into::<ArrayBuffer>());
    room.resize(bytes.length() as usize, 0);
    bytes.copy_to(&mut room);
    Ok(room.into())
}

fn other(message: String) -> io::Error {
    io::Error::other(message)
}
