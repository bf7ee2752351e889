package unlock

// ProtectMemory has nothing to do on Windows: a crash writes no dump unless an
// administrator configured one.
func ProtectMemory() error { return nil }
