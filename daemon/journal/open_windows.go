package journal

const openFlags = 0
