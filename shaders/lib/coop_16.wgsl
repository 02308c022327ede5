// Cooperative matrices of 16 by 16: f16 in, f32 sums.

const EDGE = 16u;
alias Rows = coop_mat16x16<f16, A>;
alias Cols = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
