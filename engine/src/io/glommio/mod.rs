//! The glommio runtime behind the seam: the only place that names glommio.
