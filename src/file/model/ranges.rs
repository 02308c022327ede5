//! Models whose files come by ranges: opened and loaded by futures, a tensor at a time.

use super::Model;
use crate::error::{Error, Result};
use crate::file::container::folder::Folder;
use crate::file::container::ranges::{self, ByteRanges, RangeFile};
use crate::file::container::source::Source;
use crate::file::container::tensors::{Files, TensorInfo};
use crate::linear::Linear;
use crate::tensor::PackedTensor;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

impl Model {
    /// Opens a model whose files come range by range, by name: one file, the parts of a split GGUF,
    /// or the files of a checkpoint with its index and `config.json`. `label` stands for the folder
    /// in errors; it may be empty.
    ///
    /// Headers and settings are fetched; the bytes of a tensor only when they are asked for, with
    /// [`Model::tensor_async`], [`Model::rows_async`], [`Model::linear_async`],
    /// [`Model::bytes_async`] or [`Model::range_async`]. The model keeps none of them. The same
    /// functions without `_async` answer with [`Error::Argument`].
    ///
    /// ```
    /// use qmatmul::file::{ByteRanges, Model, RangeFuture};
    /// use std::{ops::Range, sync::Arc};
    ///
    /// struct Memory(bytes::Bytes);
    ///
    /// impl ByteRanges for Memory {
    ///     fn len(&self) -> u64 {
    ///         self.0.len() as u64
    ///     }
    ///
    ///     fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
    ///         let bytes = self.0.slice(range.start as usize..range.end as usize);
    ///         Box::pin(std::future::ready(Ok(bytes)))
    ///     }
    /// }
    ///
    /// # fn main() -> qmatmul::Result<()> {
    /// # pollster::block_on(async {
    /// let header = br#"{"w":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}"#;
    /// let len = (header.len() as u64).to_le_bytes();
    /// let file = [&len[..], header, &[0x80, 0x3f, 0, 0]].concat();
    /// let file: Arc<dyn ByteRanges> = Arc::new(Memory(file.into()));
    /// let model = Model::open_ranges("", &[("model.safetensors", file)]).await?;
    /// let weight = model.tensor_async(model.find("w")?).await?;
    /// assert_eq!(weight.dequantize(), [1.0, 0.0]);
    /// assert!(model.tensor(model.find("w")?).is_err());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::Malformed`] for a file that changes its length, or whose source
    /// gives more or fewer bytes than it was asked for; [`Error::Argument`] if there is no file.
    pub async fn open_ranges(label: &str, files: &[(&str, Arc<dyn ByteRanges>)]) -> Result<Self> {
        let label = Path::new(label);
        let files = RangeFile::all(label, files);
        loop {
            let opened = Self::open_fetched(label, &files);
            if !files.iter().any(RangeFile::lacks) {
                files.iter().for_each(RangeFile::close);
                return opened;
            }
            drop(opened);
            ranges::fetch(files.iter()).await?;
        }
    }

    /// The model by what was fetched so far.
    fn open_fetched(label: &Path, files: &[RangeFile]) -> Result<Self> {
        let folder = Folder::Ranges { label, files };
        match files {
            [] => Err(Error::Argument(format!("{}: there are no files to open", label.display()))),
            [file] => Self::open_in(file.path(), &folder, file.name().as_ref()),
            _ => Self::open_folder(&folder),
        }
    }

    /// [`Model::tensor`] of any model; of one by ranges, the tensor's bytes are fetched.
    ///
    /// # Errors
    /// As [`Model::tensor`] and [`Model::open_ranges`].
    pub async fn tensor_async(&self, info: &TensorInfo) -> Result<PackedTensor> {
        self.rows_async(info, 0..info.rows()).await
    }

    /// [`Model::rows`] of any model; of one by ranges, the bytes of these rows are fetched, or all
    /// of a module's.
    ///
    /// # Errors
    /// As [`Model::rows`] and [`Model::open_ranges`].
    pub async fn rows_async(&self, info: &TensorInfo, rows: Range<u64>) -> Result<PackedTensor> {
        self.fetched(info, |files| self.rows_of(files, info, rows.clone())).await
    }

    /// [`Model::linear`] of any model; of one by ranges, the bytes of weight and bias are fetched.
    ///
    /// # Errors
    /// As [`Model::linear`] and [`Model::open_ranges`].
    pub async fn linear_async(&self, info: &TensorInfo) -> Result<Linear> {
        self.fetched(info, |files| self.linear_of(files, info)).await
    }

    /// [`Model::bytes`] of any model; of one by ranges, they are fetched.
    ///
    /// # Errors
    /// As [`Model::bytes`] and [`Model::open_ranges`].
    pub async fn bytes_async(&self, info: &TensorInfo) -> Result<Bytes> {
        self.range_async(info, 0..self.stored(info).bytes).await
    }

    /// [`Model::range`] of any model; of one by ranges, the bytes are fetched.
    ///
    /// # Errors
    /// As [`Model::range`] and [`Model::open_ranges`].
    pub async fn range_async(&self, info: &TensorInfo, range: Range<u64>) -> Result<Bytes> {
        self.fetched(info, |files| self.range_of(files, info, range.clone())).await
    }

    /// What `load` makes of the files, as often as it takes until nothing is missing. What is
    /// fetched belongs to this load alone and ends with it.
    async fn fetched<T>(&self, info: &TensorInfo, load: impl Fn(&Files) -> Result<T>) -> Result<T> {
        let own: Option<Vec<RangeFile>> =
            self.files.iter().map(|file| Some(file.ranges()?.for_load())).collect();
        let Some(own) = own else { return load(&Files(&self.files)) };
        let sources: Vec<Source> = own.iter().cloned().map(Source::from_ranges).collect();
        let mut is_first = true;
        loop {
            let loaded = load(&Files(&sources));
            if !own.iter().any(RangeFile::lacks) {
                return loaded;
            }
            drop(loaded);
            // A scheme reads the parts of a weight one after another; they come together.
            if std::mem::take(&mut is_first)
                && let Some(module) = info.module.as_ref().filter(|m| !m.has_kept_columns())
                && !module.is_stored_alone()
            {
                Files(&sources).want(module.parts(&self.stored).into_iter());
            }
            ranges::fetch(own.iter()).await?;
        }
    }
}
