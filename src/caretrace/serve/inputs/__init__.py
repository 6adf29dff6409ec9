"""Vital signs in the formats of hospitals: FHIR R4 bundles, HL7 v2 messages, MQTT."""
