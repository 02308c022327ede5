//! Everything that names wgpu: the device, uploads, pipelines, recording, reading back, timing.

mod device;
mod errors;
mod host;
mod peak;
mod pipelines;
mod record;
mod runtime;
mod time;
mod transfer;
mod weights;

pub use device::{AdapterSummary, Options, Select, adapters};
pub use peak::{Arithmetic, Bandwidth, Peak};
pub use runtime::Runtime;
pub(crate) use runtime::{CANARY, Task};
pub use time::Timing;
pub use weights::{Upload, Weights};
