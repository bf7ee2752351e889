package harness

const trayProgram = "countersign-tray"
