-- p0 = 'default'
-- columns: IngestSeq:long, ReportId:string
SELECT
  "IngestSeq" AS c3,
  "ReportId" AS c5
FROM "AgentActivity"
WHERE
  "TenantId" IN ($p0) AND "IngestSeq" > 5
ORDER BY
  "IngestSeq" NULLS FIRST
LIMIT 5000
