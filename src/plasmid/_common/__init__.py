"""Names that Ray programs reach for although they are private: `ray._common.test_utils`."""
