//! A model file that the user has opened.

use crate::errors::js;
use crate::source::{BlobRanges, UrlRanges};
use crate::tables;
use qmatmul::file::{ByteRanges, Model, TensorInfo};
use qmatmul::{Error, Result};
use qmatmul_report::inspect;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// A model whose bytes stay where they are.
#[wasm_bindgen]
pub struct ModelFile {
    model: Model,
    label: String,
}

#[wasm_bindgen]
impl ModelFile {
    /// Of files that the user has chosen, by their names: one, or those of a checkpoint or of a model
    /// in parts.
    pub async fn open(names: Vec<String>, blobs: Vec<web_sys::Blob>) -> Result<ModelFile, JsValue> {
        let ranges = |blob| -> Arc<dyn ByteRanges> { Arc::new(BlobRanges::new(blob)) };
        let files: Vec<_> = blobs.into_iter().map(ranges).collect();
        let label = match &names[..] {
            [name] => name.clone(),
            several => format!("{} files", several.len()),
        };
        let named: Vec<_> = names.iter().map(String::as_str).zip(files).collect();
        Self::of(label, &named).await.map_err(js)
    }

    /// Of a server that sends parts of a file.
    #[wasm_bindgen(js_name = openUrl)]
    pub async fn open_url(url: String) -> Result<ModelFile, JsValue> {
        let opened = UrlRanges::open(&url).await.map_err(Error::io("opening", &url));
        let file: Arc<dyn ByteRanges> = Arc::new(opened.map_err(js)?);
        // What a file is, its first bytes decide; its name is for messages and tells of an index.
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("model").to_owned();
        Self::of(url, &[(&name, file)]).await.map_err(js)
    }

    /// What people call it.
    pub fn label(&self) -> String {
        self.label.clone()
    }

    /// `{ label, kind, bytes, tensors, formats: [{ format, count }] }`
    pub fn summary(&self) -> String {
        let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in self.model.tensors() {
            *formats.entry(tensor.dtype.name()).or_default() += 1;
        }
        let mut formats: Vec<_> = formats.into_iter().collect();
        formats.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let formats: Vec<_> = formats
            .into_iter()
            .map(|(format, count)| serde_json::json!({ "format": format, "count": count }))
            .collect();
        serde_json::json!({
            "label": self.label,
            "kind": self.model.kind().to_string(),
            "bytes": self.model.files().map(|(_, bytes)| bytes).sum::<u64>(),
            "tensors": self.model.tensors().len(),
            "formats": formats,
        })
        .to_string()
    }

    /// The table of its tensors.
    pub fn table(&self) -> String {
        let rows: Vec<_> = self.model.tensors().iter().map(inspect::cells).collect();
        tables::table(inspect::COLUMNS, &rows)
    }

    /// `[{ name, bytes }]`
    pub fn tensors(&self) -> String {
        let one = |info: &TensorInfo| serde_json::json!({ "name": info.name, "bytes": info.bytes });
        serde_json::Value::Array(self.model.tensors().iter().map(one).collect()).to_string()
    }

    /// The matrices that a token is multiplied by, each kind once: `[{ format, m, k, count, tensor }]`
    pub fn shapes(&self) -> String {
        let one = |product: &qmatmul::file::Product| {
            let format = product.tensor.dtype.format()?.name;
            let (m, k, count, tensor) = (product.m, product.k, product.per_token(), &product.tensor.name);
            Some(serde_json::json!({ "format": format, "m": m, "k": k, "count": count, "tensor": tensor }))
        };
        serde_json::Value::Array(self.model.products().iter().filter_map(one).collect()).to_string()
    }
}

impl ModelFile {
    async fn of(label: String, files: &[(&str, Arc<dyn ByteRanges>)]) -> Result<Self> {
        // One file has its own name in errors.
        let folder = if files.len() == 1 { "" } else { &label };
        Ok(Self { model: Model::open_ranges(folder, files).await?, label })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }
}
