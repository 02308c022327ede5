// Which activations LLM.int8 leaves out of its integers.

fn is_outlier(v: f32) -> bool {
    return params.threshold > 0.0 && abs(v) >= params.threshold;
}
